use super::{ServedBy, cookie};
use crate::{
    balance::Describe,
    strategy::{Hint, SessionSecret, SessionToken},
};
use http::{
    HeaderMap, HeaderValue, Request, Response,
    header::{COOKIE, SET_COOKIE},
};
use pin_project_lite::pin_project;
use std::{
    error::Error,
    fmt::{self, Write},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tower::{Layer, Service};

/// The cookie that keeps a client on its backend, with the strategy [`Sticky`](crate::strategy::Sticky).
///
/// It holds a keyed token, not the backend's address. It is set with the first answer and whenever another backend has
/// answered, for the length of the browser's session, with `Path=/; HttpOnly; SameSite=Lax`. The backends do not see it, and
/// cannot set one of that name.
///
/// Two sides of the balancer know it: it tells the strategy what a request carries (it is a [`Describe`]), and a
/// [`SessionLayer`] around the balancer sets it. [`ReverseProxy`](crate::ReverseProxy) does both:
///
/// ```
/// use tower_balancer::{
///     BackendPool, ReverseProxy,
///     http::SessionCookie,
///     strategy::{LeastLatency, SessionSecret, Sticky},
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = BackendPool::new(["http://10.0.0.1:8080", "http://10.0.0.2:8080"])?;
/// // Of `openssl rand -hex 16`; the same in all balancers of a fleet.
/// let secret: SessionSecret = "c0ffee00c0ffee00c0ffee00c0ffee00".parse()?;
/// let proxy = ReverseProxy::builder(&pool)
///     .strategy(Sticky::new(secret, LeastLatency::new()))
///     .session(SessionCookie::new("backend", secret)?);
/// # let _: ReverseProxy<_, String> = proxy.build();
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct SessionCookie(Arc<Cookie>);

#[derive(Clone, Debug)]
struct Cookie {
    name: Box<str>,
    /// What comes after the value.
    attributes: String,
    secret: SessionSecret,
}

impl SessionCookie {
    /// A cookie of that name, with tokens of the strategy's secret.
    ///
    /// # Errors
    ///
    /// [`InvalidCookieName`] where `name` is empty or has letters that no cookie's name may have (RFC 6265).
    pub fn new(name: &str, secret: SessionSecret) -> Result<Self, InvalidCookieName> {
        let is_token = |byte: u8| byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?={}".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(InvalidCookieName(name.to_owned()));
        }
        let attributes = "; Path=/; HttpOnly; SameSite=Lax".to_owned();
        Ok(Self(Arc::new(Cookie { name: name.into(), attributes, secret })))
    }

    /// For encrypted connections only.
    pub fn secure(self) -> Self {
        self.with("; Secure")
    }

    /// For so long, in whole seconds and at least one, instead of the browser's session.
    pub fn max_age(self, max_age: Duration) -> Self {
        self.with(&format!("; Max-Age={}", max_age.as_secs().max(1)))
    }

    fn with(mut self, attribute: &str) -> Self {
        Arc::make_mut(&mut self.0).attributes.push_str(attribute);
        self
    }

    /// The token that a request carries. Of several, the last: browsers send the one for the whole site last.
    fn of(&self, headers: &HeaderMap) -> Option<SessionToken> {
        cookie::values(headers, &self.0.name).filter_map(SessionToken::read).last()
    }

    /// The same, and the backends do not see it.
    fn take(&self, headers: &mut HeaderMap) -> Option<SessionToken> {
        let token = self.of(headers);
        let is_ours = |pair: &[u8]| cookie::value(pair, &self.0.name).is_some();
        if cookie::pairs(headers).any(is_ours) {
            let others: Vec<_> = cookie::pairs(headers).filter(|pair| !is_ours(pair)).map(<[u8]>::trim_ascii).collect();
            let others = others.join(&b"; "[..]);
            headers.remove(COOKIE);
            if let Some(others) = HeaderValue::from_bytes(&others).ok().filter(|others| !others.is_empty()) {
                headers.insert(COOKIE, others);
            }
        }
        token
    }

    /// What a backend sets by that name is not for the client, who would come back with it.
    fn remove_foreign(&self, headers: &mut HeaderMap) {
        let is_foreign = |header: &HeaderValue| cookie::value(header.as_bytes(), &self.0.name).is_some();
        if headers.get_all(SET_COOKIE).into_iter().any(is_foreign) {
            let others: Vec<_> =
                headers.get_all(SET_COOKIE).into_iter().filter(|set| !is_foreign(set)).cloned().collect();
            headers.remove(SET_COOKIE);
            others.into_iter().for_each(|other| _ = headers.append(SET_COOKIE, other));
        }
    }

    /// Sets it, unless the client has it already.
    fn set<B>(&self, carried: Option<SessionToken>, response: &mut Response<B>) {
        let Some(served_by) = response.extensions().get::<ServedBy>() else { return };
        let token = self.0.secret.token(served_by.backend());
        self.remove_foreign(response.headers_mut());
        if carried == Some(token) {
            return;
        }
        let mut text = String::with_capacity(self.0.name.len() + 33 + self.0.attributes.len());
        // Writing to a string does not fail, and a name and hexadecimal digits are a header's value.
        let _ = write!(text, "{}={token}{}", self.0.name, self.0.attributes);
        if let Ok(value) = HeaderValue::try_from(text) {
            response.headers_mut().append(SET_COOKIE, value);
        }
    }
}

impl<B> Describe<Request<B>> for SessionCookie {
    fn describe<'a>(&self, request: &'a Request<B>, hint: &mut Hint<'a>) {
        // A layer above has taken it out of the headers; without one it is still there.
        hint.session = request.extensions().get().copied().or_else(|| self.of(request.headers()));
    }
}

/// The error for a name that no cookie may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidCookieName(String);

impl fmt::Display for InvalidCookieName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid cookie name {:?}: expected letters, digits and !#$%&'*+-.^_`|~", self.0)
    }
}

impl Error for InvalidCookieName {}

/// Puts a [`Session`] around a balancer.
#[derive(Clone, Debug)]
pub struct SessionLayer {
    cookie: Option<SessionCookie>,
}

impl SessionLayer {
    /// Sets `cookie`.
    pub fn new(cookie: SessionCookie) -> Self {
        Self { cookie: Some(cookie) }
    }

    /// Sets nothing.
    pub fn none() -> Self {
        Self { cookie: None }
    }
}

impl<S> Layer<S> for SessionLayer {
    type Service = Session<S>;

    fn layer(&self, inner: S) -> Session<S> {
        Session { inner, cookie: self.cookie.clone() }
    }
}

/// Tells the client by a [`SessionCookie`] which backend has answered, where it does not know yet: once per request, above
/// whatever tries several backends. An answer that is not a backend's sets nothing.
#[derive(Clone, Debug)]
pub struct Session<S> {
    inner: S,
    cookie: Option<SessionCookie>,
}

impl<S, B, R> Service<Request<B>> for Session<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let cookie = self.cookie.clone();
        let carried = cookie.as_ref().and_then(|cookie| cookie.take(request.headers_mut()));
        if let Some(token) = carried {
            request.extensions_mut().insert(token);
        }
        ResponseFuture { inner: self.inner.call(request), cookie, carried }
    }
}

pin_project! {
    /// The response of a [`Session`].
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: F,
        cookie: Option<SessionCookie>,
        carried: Option<SessionToken>,
    }
}

impl<F, R, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<R>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.inner.poll(cx))?;
        if let Some(cookie) = this.cookie {
            cookie.set(*this.carried, &mut response);
        }
        Poll::Ready(Ok(response))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_no_cookie_may_have_is_named() {
        let secret = SessionSecret::new([0; 16]);
        for bad in ["", "a b", "a=b", "a;b", "\u{e9}", "a\n"] {
            let error = SessionCookie::new(bad, secret).unwrap_err().to_string();
            assert!(error.starts_with(&format!("invalid cookie name {bad:?}")), "{error}");
        }
        let cookie = SessionCookie::new("lb", secret).unwrap().secure().max_age(Duration::from_secs(60));
        assert_eq!(cookie.0.attributes, "; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=60");
    }
}
