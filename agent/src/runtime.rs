//! The CRI server itself: how it is, and its events.

use std::time::Duration;

use proto_cri as cri;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::Status;

use crate::cri::{CALL, Cri, within};
use crate::labels;
use crate::sync::Happening;

/// How long to wait before events are asked for again.
const AGAIN: Duration = Duration::from_secs(1);
/// How often the runtime is asked how it is.
const ASK: Duration = Duration::from_secs(5);
/// How often while it is not ready for pods; at the start, when that may end any moment.
const ASK_UNREADY: Duration = Duration::from_secs(1);
const ASK_STARTING: Duration = Duration::from_millis(50);
/// How long the start is taken to last.
const STARTING: Duration = Duration::from_secs(60);
/// How long it may be silent before it counts as down.
const SILENT: Duration = Duration::from_secs(30);

/// How the runtime is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Runtime {
    pub(crate) name: String,
    pub(crate) version: String,
    /// Why it can run no pods.
    pub(crate) problem: Option<String>,
    /// Why it has no network for them, in the words of a node's condition, and for a pod's.
    pub(crate) network_problem: Option<(String, String)>,
    /// Its handlers: name, whether it mounts read-only recursively, whether it knows user namespaces.
    pub(crate) handlers: Vec<(String, bool, bool)>,
    /// Whether it honours `supplementalGroupsPolicy`, if it says so.
    pub(crate) supplemental_groups_policy: Option<bool>,
}

/// Asks the runtime how it is.
async fn ask(cri: &Cri) -> Result<Runtime, Status> {
    let request = cri::VersionRequest { version: "0.1.0".into() };
    let version = within(CALL, cri.runtime.clone().version(request)).await?;
    let answer = within(CALL, cri.runtime.clone().status(cri::StatusRequest { verbose: false })).await?;
    let conditions = answer.status.map(|s| s.conditions).unwrap_or_default();
    let problem = |kind: &str| conditions.iter().find(|c| c.r#type == kind && !c.status);
    let words =
        |c: &cri::RuntimeCondition| format!("{}=false reason:{} message:{}", c.r#type, c.reason, c.message);
    let short = |c: &cri::RuntimeCondition| match c.message.is_empty() {
        true => c.reason.clone(),
        false => c.message.clone(),
    };
    let features = |h: cri::RuntimeHandler| {
        let features = h.features.unwrap_or_default();
        (h.name, features.recursive_read_only_mounts, features.user_namespaces)
    };
    Ok(Runtime {
        name: version.runtime_name,
        version: version.runtime_version,
        problem: problem("RuntimeReady").map(|c| format!("container runtime not ready: {}", words(c))),
        network_problem: problem("NetworkReady")
            .map(|c| (format!("container runtime network not ready: {}", words(c)), short(c))),
        handlers: answer.runtime_handlers.into_iter().map(features).collect(),
        supplemental_groups_policy: answer.features.map(|f| f.supplemental_groups_policy),
    })
}

/// Tells how the runtime is whenever that changes, for ever.
pub(crate) async fn follow(
    cri: Cri,
    state: watch::Sender<Option<Runtime>>,
    happenings: UnboundedSender<Happening>,
) {
    let began = Instant::now();
    let mut heard = began;
    loop {
        let ready = match ask(&cri).await {
            Ok(runtime) => {
                heard = Instant::now();
                let ready = runtime.problem.is_none() && runtime.network_problem.is_none();
                let now = Some(runtime.clone());
                if state.send_if_modified(|known| std::mem::replace(known, now.clone()) != now) {
                    let network_problem = runtime.network_problem.map(|(_, short)| short);
                    let happening = Happening::Runtime { name: runtime.name, network_problem };
                    if happenings.send(happening).is_err() {
                        return;
                    }
                }
                ready
            }
            Err(status) => {
                tracing::debug!("the CRI server does not answer: {}", status.message());
                if heard.elapsed() > SILENT {
                    let problem = Some("container runtime is down".to_owned());
                    state.send_if_modified(|known| {
                        known
                            .as_mut()
                            .is_some_and(|k| std::mem::replace(&mut k.problem, problem.clone()) != problem)
                    });
                }
                false
            }
        };
        let pause = match ready {
            true => ASK,
            false if began.elapsed() < STARTING => ASK_STARTING,
            false => ASK_UNREADY,
        };
        tokio::time::sleep(pause).await;
    }
}

/// Hears the runtime's events for ever. They are hints: what they say is looked at, what they omit the audit finds.
pub(crate) async fn listen(cri: Cri, happenings: UnboundedSender<Happening>) {
    loop {
        if let Ok(response) = cri.runtime.clone().get_container_events(cri::GetEventsRequest {}).await {
            let mut events = response.into_inner();
            let _ = happenings.send(Happening::Listening(true));
            while let Ok(Some(event)) = events.message().await {
                let of_pod = event.pod_sandbox_status.and_then(|s| s.metadata).map(|m| m.uid);
                let of_container =
                    event.containers_statuses.first().and_then(|c| c.labels.get(labels::POD_UID)).cloned();
                if let Some(uid) = of_pod.or(of_container) {
                    let _ = happenings.send(Happening::Hint(uid));
                }
            }
        }
        if happenings.send(Happening::Listening(false)).is_err() {
            return;
        }
        tokio::time::sleep(AGAIN).await;
    }
}
