//! What can be done, and what can be waited for.

use std::fmt;

use jiff::Timestamp;

/// An action for one pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodAction {
    /// The pod's uid.
    pub uid: String,
    /// What to do.
    pub action: Action,
}

/// One step towards what is desired. Each is safe to repeat after a crash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make the pod's cgroup and write its limits.
    PrepareCgroup,
    /// Make the pod's volumes.
    PrepareVolumes,
    /// Write anew what has changed of volumes that are there.
    UpdateVolumes,
    /// Make and start a sandbox.
    CreateSandbox {
        /// How many sandboxes the pod had before.
        attempt: u32,
    },
    /// See whether an image is there, and pull it as its policy says.
    EnsureImage {
        /// The image as the pod names it.
        image: String,
        /// When to pull.
        policy: crate::image::PullPolicy,
        /// The container that needs it, for the event.
        container: String,
    },
    /// Make a container.
    CreateContainer {
        /// Its name.
        name: String,
        /// The sandbox to put it in.
        sandbox: String,
        /// How many attempts were before.
        attempt: u32,
        /// How many of them, the latest ones, ended too soon.
        crashes: u32,
        /// The runtime's reference to its image.
        image: String,
    },
    /// Start a container.
    StartContainer {
        /// Its name.
        name: String,
        /// Its id.
        id: String,
    },
    /// Tell the kernel of a container's new resources, and of its pod's.
    ResizeContainer {
        /// Its name.
        name: String,
        /// Its id.
        id: String,
    },
    /// Run its postStart hook.
    PostStart {
        /// Its name.
        name: String,
        /// Its id.
        id: String,
    },
    /// Run its preStop hook.
    PreStop {
        /// Its name.
        name: String,
        /// Its id.
        id: String,
        /// When it is given up.
        deadline: Timestamp,
    },
    /// Stop a container.
    StopContainer {
        /// Its name.
        name: String,
        /// Its id.
        id: String,
        /// How long it may take before it is killed, in seconds.
        grace_seconds: i64,
        /// Why, for people.
        reason: String,
    },
    /// Let a container that is being stopped have less time.
    HurryContainer {
        /// Its name.
        name: String,
        /// Its id.
        id: String,
        /// How long it may take from now on before it is killed, in seconds.
        grace_seconds: i64,
    },
    /// Remove a container that does not run.
    RemoveContainer {
        /// Its name.
        name: String,
        /// Its id.
        id: String,
    },
    /// Stop a sandbox: everything in it, and its network.
    StopSandbox {
        /// Its id.
        id: String,
    },
    /// Remove a sandbox that is stopped.
    RemoveSandbox {
        /// Its id.
        id: String,
    },
    /// Unmount and remove the pod's volumes.
    TeardownVolumes,
    /// Remove the pod's cgroup.
    RemoveCgroup,
    /// Remove the pod's directory, logs and checkpoint: it is gone.
    Forget,
}

/// What an action is done to. Nothing is done twice at a time to one object of a pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Object {
    /// The pod's cgroup.
    Cgroup,
    /// The pod's volumes.
    Volumes,
    /// The pod's sandboxes.
    Sandbox,
    /// An image, on the whole node.
    Image(String),
    /// A container, all attempts.
    Container(String),
    /// The postStart hook of a container.
    PostStart(String),
    /// The preStop hook of a container.
    PreStop(String),
    /// How long a container may take that is being stopped.
    Hurry(String),
    /// The pod as a whole.
    Pod,
}

impl Action {
    /// What it is done to.
    #[must_use]
    pub fn object(&self) -> Object {
        match self {
            Self::PrepareCgroup | Self::RemoveCgroup => Object::Cgroup,
            Self::PrepareVolumes | Self::UpdateVolumes | Self::TeardownVolumes => Object::Volumes,
            Self::CreateSandbox { .. } | Self::StopSandbox { .. } | Self::RemoveSandbox { .. } => {
                Object::Sandbox
            }
            Self::EnsureImage { image, .. } => Object::Image(image.clone()),
            Self::CreateContainer { name, .. }
            | Self::StartContainer { name, .. }
            | Self::ResizeContainer { name, .. }
            | Self::StopContainer { name, .. }
            | Self::RemoveContainer { name, .. } => Object::Container(name.clone()),
            Self::PostStart { name, .. } => Object::PostStart(name.clone()),
            Self::PreStop { name, .. } => Object::PreStop(name.clone()),
            Self::HurryContainer { name, .. } => Object::Hurry(name.clone()),
            Self::Forget => Object::Pod,
        }
    }
}

/// Something a pod waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// Which part of the pod: `container web`, `sandbox`, `pod`.
    pub who: String,
    /// What for, for people.
    pub what: String,
    /// When it is over by itself.
    pub until: Option<Timestamp>,
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.who, self.what)?;
        match self.until {
            Some(until) => write!(f, " (until {until:.0})"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cgroup => f.write_str("cgroup"),
            Self::Volumes => f.write_str("volumes"),
            Self::Sandbox => f.write_str("sandbox"),
            Self::Image(name) => write!(f, "image {name}"),
            Self::Container(name) => write!(f, "container {name}"),
            Self::PostStart(name) => write!(f, "postStart hook of container {name}"),
            Self::PreStop(name) => write!(f, "preStop hook of container {name}"),
            Self::Hurry(name) => write!(f, "hurry of container {name}"),
            Self::Pod => f.write_str("pod"),
        }
    }
}
