use crate::backend::{BackendId, Locality, Weight};
#[cfg(feature = "http")]
use crate::backend::{InvalidOrigin, Origin};
use std::{error::Error, fmt};

/// What a host says about one backend: who it is, how it is reached, its share.
///
/// ```
/// use tower_balancer::{backend::Weight, pool::Member};
///
/// // An HTTP backend is named by its URL,
/// let web = Member::url("http://10.0.0.1:8080")?.weight(Weight::new(3.0)?);
/// assert_eq!(web.id(), &"http://10.0.0.1:8080");
///
/// // anything else by a name of your choice. The target may be a tonic `Channel`, a client, an address.
/// let shard = Member::new("shard-1", "10.0.0.7:5432");
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Member<T> {
    pub(super) id: BackendId,
    pub(super) target: T,
    pub(super) weight: Weight,
    /// Whether one that is there goes on with the weight that it has.
    pub(super) keeps_weight: bool,
    pub(super) locality: Locality,
}

impl<T> Member<T> {
    /// The backend `id`, reached by `target`, with weight 1.
    pub fn new(id: impl Into<BackendId>, target: T) -> Self {
        Self { id: id.into(), target, weight: Weight::ONE, keeps_weight: false, locality: Locality::default() }
    }

    /// The same with another weight.
    pub fn weight(self, weight: Weight) -> Self {
        Self { weight, ..self }
    }

    /// The same in another priority tier: 0, where it is unless said otherwise, comes first. Counts where the strategy is
    /// in [`Tiers`](crate::strategy::Tiers).
    pub fn priority(self, priority: u32) -> Self {
        Self { locality: Locality { priority, ..self.locality }, ..self }
    }

    /// The same in a zone. Counts where the strategy is in [`Zones`](crate::strategy::Zones).
    pub fn zone(self, zone: impl Into<std::sync::Arc<str>>) -> Self {
        Self { locality: Locality { zone: Some(zone.into()), ..self.locality }, ..self }
    }

    /// Its share, as it is said here.
    pub(crate) fn said_weight(&self) -> Weight {
        self.weight
    }

    /// The same, where one that is there goes on with the weight that it has, whoever has set that.
    pub(crate) fn keep_weight(self) -> Self {
        Self { keeps_weight: true, ..self }
    }

    /// The name by which the backend is known.
    pub fn id(&self) -> &BackendId {
        &self.id
    }
}

#[cfg(feature = "http")]
impl Member<Origin> {
    /// The HTTP backend at `url`, which is also its id in canonical spelling.
    ///
    /// # Errors
    ///
    /// [`InvalidOrigin`] where `url` is not of the form `http://host:port`.
    pub fn url(url: &str) -> Result<Self, InvalidOrigin> {
        url.parse::<Origin>().map(Self::from)
    }
}

#[cfg(feature = "http")]
impl From<Origin> for Member<Origin> {
    fn from(origin: Origin) -> Self {
        Self::new(origin.id().clone(), origin)
    }
}

/// The error for a list of backends that a pool cannot hold. The pool is left as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidMember {
    /// Two backends with the same id.
    Duplicate(BackendId),
    /// A URL that is not an origin.
    #[cfg(feature = "http")]
    Origin(InvalidOrigin),
}

impl fmt::Display for InvalidMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duplicate(id) => write!(f, "duplicate backend {id}: expected each backend once"),
            #[cfg(feature = "http")]
            Self::Origin(error) => error.fmt(f),
        }
    }
}

impl Error for InvalidMember {}

#[cfg(feature = "http")]
impl From<InvalidOrigin> for InvalidMember {
    fn from(error: InvalidOrigin) -> Self {
        Self::Origin(error)
    }
}
