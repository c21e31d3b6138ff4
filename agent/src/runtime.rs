//! The CRI server itself: how it is, and its events.

use std::time::Duration;

use proto_cri as cri;
use tokio::sync::mpsc::UnboundedSender;
use tonic::Status;

use crate::cri::{CALL, Cri, within};
use crate::labels;
use crate::sync::Happening;

/// How long to wait before events are asked for again.
const AGAIN: Duration = Duration::from_secs(1);

/// The runtime's name, and why it has no network for pods.
pub(crate) async fn facts(cri: &Cri) -> Result<(String, Option<String>), Status> {
    let request = cri::VersionRequest { version: "0.1.0".into() };
    let version = within(CALL, cri.runtime.clone().version(request)).await?;
    let status = within(CALL, cri.runtime.clone().status(cri::StatusRequest { verbose: false })).await?;
    let conditions = status.status.map(|s| s.conditions).unwrap_or_default();
    let problem = conditions.into_iter().find(|c| c.r#type == "NetworkReady" && !c.status);
    let text = |c: cri::RuntimeCondition| if c.message.is_empty() { c.reason } else { c.message };
    Ok((version.runtime_name, problem.map(text)))
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
