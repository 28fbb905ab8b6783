use std::sync::Arc;

/// What a layer has, for one of its services: with a count of references of its own. A single one would be written by all threads,
/// with every request.
pub(super) fn own<T: Clone>(of_the_layer: &Arc<T>) -> Arc<T> {
    Arc::new(T::clone(of_the_layer))
}
