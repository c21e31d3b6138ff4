//! The labels and annotations by which sandboxes and containers are told apart; upstream's where it has one.

/// The pod's name.
pub(crate) const POD_NAME: &str = "io.kubernetes.pod.name";
/// The pod's namespace.
pub(crate) const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// The pod's uid.
pub(crate) const POD_UID: &str = "io.kubernetes.pod.uid";
/// The container's name.
pub(crate) const CONTAINER_NAME: &str = "io.kubernetes.container.name";
/// The node whose agent made it: what lacks it is not ours and left alone.
pub(crate) const NODE: &str = "cleat.dev/node";
/// How many attempts at the container were before.
pub(crate) const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
/// How many of these, the latest ones, ended too soon.
pub(crate) const CRASHES: &str = "cleat.dev/crashes";
/// Its image, as the pod named it.
pub(crate) const IMAGE: &str = "cleat.dev/image";
/// Where the container writes its termination message.
pub(crate) const MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
/// Whether its log may stand in for it.
pub(crate) const MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
/// The pod's grace period in seconds, for a pod of which nothing else is known.
pub(crate) const POD_GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";

/// Where a static pod came from: `file`.
pub(crate) const CONFIG_SOURCE: &str = "kubernetes.io/config.source";
/// The hash of its manifest.
pub(crate) const CONFIG_HASH: &str = "kubernetes.io/config.hash";
/// When it was first seen.
pub(crate) const CONFIG_SEEN: &str = "kubernetes.io/config.seen";
/// On the mirror of a static pod in the API: the hash of its manifest.
pub(crate) const CONFIG_MIRROR: &str = "kubernetes.io/config.mirror";
