//! Lifecycle hooks.

use std::time::Duration;

use agent_core::pod;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::LifecycleHandler;

use super::{EffectFailed, Effects, Order};
use crate::reach::{self, Answer, Place};

/// A postStart hook has no deadline of its own; the end of its container ends it.
const POST_START: Duration = Duration::from_secs(24 * 3600);

impl Effects {
    pub(super) async fn post_start(&self, order: &Order, name: &str, id: &str) -> Result<(), EffectFailed> {
        linux::crash::point("agent.post_start");
        let hook = |l: &k8s_openapi::api::core::v1::Lifecycle| l.post_start.clone();
        self.hook(order, name, id, hook, POST_START, "FailedPostStartHook").await
    }

    pub(super) async fn pre_stop(
        &self,
        order: &Order,
        name: &str,
        id: &str,
        deadline: Timestamp,
    ) -> Result<(), EffectFailed> {
        linux::crash::point("agent.pre_stop");
        let left = Duration::try_from(deadline.duration_since(self.clock.now())).unwrap_or_default();
        let hook = |l: &k8s_openapi::api::core::v1::Lifecycle| l.pre_stop.clone();
        self.hook(order, name, id, hook, left, "FailedPreStopHook").await
    }

    async fn hook(
        &self,
        order: &Order,
        name: &str,
        id: &str,
        which: impl Fn(&k8s_openapi::api::core::v1::Lifecycle) -> Option<LifecycleHandler>,
        limit: Duration,
        reason: &'static str,
    ) -> Result<(), EffectFailed> {
        let Some(spec) = pod::container(&order.pod, name) else { return Ok(()) };
        let Some(handler) = spec.lifecycle.as_ref().and_then(which) else { return Ok(()) };
        let ips = if pod::host_network(&order.pod) { &order.node.ips } else { &order.pod_ips };
        let place = Place { cri: &self.cri, id, spec: &spec, ip: ips.first().copied() };
        let answer = match &handler {
            LifecycleHandler { exec: Some(action), .. } => reach::exec(&place, action, limit).await,
            LifecycleHandler { http_get: Some(action), .. } => reach::http_call(&place, action, limit).await,
            LifecycleHandler { sleep: Some(action), .. } => {
                let wanted = Duration::from_secs(u64::try_from(action.seconds).unwrap_or(0));
                tokio::time::sleep(wanted.min(limit)).await;
                Answer::yes("")
            }
            _ => Answer::no("the hook has no handler: give it exec, httpGet or sleep"),
        };
        if answer.ok() {
            return Ok(());
        }
        self.event(order, true, reason, &answer.text, Some(name));
        Err(EffectFailed::new(reason, answer.text))
    }
}
