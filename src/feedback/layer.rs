use super::{AtResponse, Feedback, TransportErrors};
use tower::Layer;

/// Puts a [`Feedback`] in front of a service.
#[derive(Clone, Copy, Debug)]
pub struct FeedbackLayer<C = TransportErrors, W = AtResponse> {
    classify: C,
    complete: W,
}

impl<C> FeedbackLayer<C> {
    /// Judges answers and errors by `classify`; a request is complete when its answer is there.
    pub fn new(classify: C) -> Self {
        Self { classify, complete: AtResponse }
    }
}

impl<C, W> FeedbackLayer<C, W> {
    /// The same with another moment at which a request is complete.
    pub fn complete<V>(self, complete: V) -> FeedbackLayer<C, V> {
        FeedbackLayer { classify: self.classify, complete }
    }
}

/// [`TransportErrors`], complete when the answer is there.
impl Default for FeedbackLayer {
    fn default() -> Self {
        Self::new(TransportErrors)
    }
}

impl<S, C: Clone, W: Clone> Layer<S> for FeedbackLayer<C, W> {
    type Service = Feedback<S, C, W>;

    fn layer(&self, inner: S) -> Self::Service {
        Feedback::new(inner, self.classify.clone(), self.complete.clone())
    }
}
