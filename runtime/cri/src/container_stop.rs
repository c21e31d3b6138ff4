//! StopContainer: the stop signal, patience, then the end of every process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proto_cri::{StopContainerRequest, StopContainerResponse};

use crate::crash;
use crate::error::Failure;
use crate::lifecycle::{Phase, Verdict, Wish, container as may};
use crate::node::{Container, Node, lock};

/// How long the kernel may take to end killed processes.
const KILL_LIMIT: Duration = Duration::from_secs(20);
const SIGKILL: i32 = 9;

impl Node {
    pub(crate) async fn stop_container(
        self: &Arc<Self>,
        request: StopContainerRequest,
    ) -> Result<StopContainerResponse, Failure> {
        let Ok(container) = self.container(&request.container_id) else {
            return Ok(StopContainerResponse {});
        };
        let phase = container.state.borrow().phase;
        match may(phase, Wish::Stop) {
            Verdict::Done => return Ok(StopContainerResponse {}),
            Verdict::Refuse(why) => {
                return Err(Failure::Precondition(format!("container {} {why}", container.id)));
            }
            Verdict::Go => {}
        }
        let patience = Duration::from_secs(u64::try_from(request.timeout).unwrap_or(0));
        let node = self.clone();
        self.own(async move { node.stop(&container, patience).await }).await?;
        Ok(StopContainerResponse {})
    }

    async fn stop(self: &Arc<Self>, container: &Arc<Container>, patience: Duration) -> Result<(), Failure> {
        let deadline = Instant::now() + patience.min(Duration::from_secs(u64::from(u32::MAX)));
        let first = lock(&container.stop).ask(deadline);
        if !first {
            container.hurried.notify_waiters();
        }
        let record = container.record();
        if first && !patience.is_zero() && record.phase == Phase::Running {
            self.signal(container, record.stop_signal, false).await?;
        }
        crash::point("container.signalled");
        let mut state = container.state.subscribe();
        loop {
            let hurried = container.hurried.notified();
            let deadline = lock(&container.stop).deadline().unwrap_or(deadline);
            let late = tokio::select! {
                _ = state.wait_for(|record| record.phase >= Phase::Exited) => return Ok(()),
                () = tokio::time::sleep_until(deadline.into()) => true,
                () = hurried => false,
            };
            if late {
                return self.kill_and_wait(container).await;
            }
        }
    }

    /// Kills every process of a container and waits for its end.
    pub(crate) async fn kill_and_wait(self: &Arc<Self>, container: &Arc<Container>) -> Result<(), Failure> {
        if matches!(container.state.borrow().phase, Phase::Exited | Phase::Removing | Phase::Creating) {
            return Ok(());
        }
        self.signal(container, SIGKILL, true).await?;
        let mut state = container.state.subscribe();
        let exited = state.wait_for(|record| record.phase >= Phase::Exited);
        match tokio::time::timeout(KILL_LIMIT, exited).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Failure::Internal(format!(
                "container {} was killed {} s ago, but a process does not end; it may hang in the kernel (state D)",
                container.id,
                KILL_LIMIT.as_secs()
            ))),
        }
    }

    /// A monitor that is gone cannot signal; then the container ends with it.
    async fn signal(self: &Arc<Self>, container: &Container, signal: i32, all: bool) -> Result<(), Failure> {
        let pod = container.state.borrow().pod.clone();
        match self.monitor(&pod).kill(&container.id, signal, all).await {
            Ok(()) => Ok(()),
            Err(error) => match self.pod(&pod) {
                Ok(pod) if !self.monitor_lives(&pod) => {
                    self.monitor_gone(&pod).await;
                    Ok(())
                }
                _ => Err(Failure::from(error)),
            },
        }
    }
}
