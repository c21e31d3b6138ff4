//! Volumes.

use agent_core::env::Facts;
use agent_core::time::seconds_later;
use agent_core::volume::Sources;
use agent_core::{data, pod};

use super::{EffectFailed, Effects, Order, Outcome, chain};
use crate::volume::{self, Made, Prepared};

/// When a volume that could not be brought up to date is looked at again, in seconds.
const AGAIN: i64 = 10;

impl Effects {
    /// Makes the pod's volumes, and writes what has changed of those that are there.
    pub(super) async fn write_volumes(&self, order: &Order) -> Result<Outcome, EffectFailed> {
        let namespace = pod::namespace(&order.pod);
        self.objects.hold(&order.uid, namespace, data::of_pod(&order.pod));
        let objects = self.objects.read(namespace, &data::of_volumes(&order.pod)).await;
        let (tokens, due) = self.tokens.of(&order.pod, &order.uid).await;
        let now = self.clock.now();
        let task = {
            let (dir, order) = (self.dir(&order.uid), order.clone());
            let pod_ips = self.addresses(&order);
            move || {
                let facts = Facts { pod: &order.pod, uid: &order.uid, pod_ips: &pod_ips, node: &order.node };
                let sources = Sources { objects: &objects, tokens: &tokens };
                let prepared = volume::prepare(&dir, &Made { facts, sources, now });
                linux::crash::point("agent.volumes.made");
                prepared
            }
        };
        let prepared = match tokio::task::spawn_blocking(task).await {
            Ok(prepared) => prepared.map_err(|error| EffectFailed::new(MOUNT, chain(&error)))?,
            Err(error) => return Err(EffectFailed::new(MOUNT, error.to_string())),
        };
        let Prepared { failed, kept } = prepared;
        let texts: Vec<String> = failed
            .iter()
            .map(|(name, error)| format!("MountVolume.SetUp failed for volume {name:?} : {}", chain(error)))
            .collect();
        for text in &texts {
            self.event(order, true, MOUNT, text, None);
        }
        if !texts.is_empty() {
            return Err(EffectFailed::new(MOUNT, texts.join("; ")));
        }
        let again = (!kept.is_empty()).then(|| {
            tracing::debug!(pod.uid = %order.uid, ?kept, "volumes are kept as they are: nobody knows how they should be");
            seconds_later(now, AGAIN)
        });
        Ok(Outcome::Volumes { due: [due, again].into_iter().flatten().min() })
    }

    /// Unmounts and removes the pod's volumes.
    pub(super) async fn remove_volumes(&self, order: &Order) -> Result<(), EffectFailed> {
        let dir = self.dir(&order.uid);
        super::blocking("FailedUnmount", move || volume::teardown(&dir)).await?;
        self.objects.release(&order.uid);
        self.tokens.forget(&order.uid);
        Ok(())
    }
}

const MOUNT: &str = "FailedMount";
