//! Looks now and then whether a pod takes more of the node than it may.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use crate::effect::Effects;
use crate::sync::{Happening, View};
use crate::volume;

/// How often.
const PERIOD: Duration = Duration::from_secs(10);

/// Tells the loop of pods whose volumes have outgrown their limits, for ever.
pub(crate) async fn run(
    effects: Arc<Effects>,
    view: watch::Receiver<Arc<View>>,
    happenings: UnboundedSender<Happening>,
) {
    loop {
        tokio::time::sleep(PERIOD).await;
        let seen = view.borrow().clone();
        let looked = effects.clone();
        let look = move || {
            let running = seen.pods.iter().filter(|pod| pod.status.phase.as_deref() == Some("Running"));
            let over = running.filter_map(|pod| {
                let message = volume::exceeded(&looked.dir(&pod.uid), &pod.pod)?;
                Some(Happening::Evict { uid: pod.uid.clone(), message })
            });
            over.collect::<Vec<_>>()
        };
        for happening in tokio::task::spawn_blocking(look).await.unwrap_or_default() {
            if happenings.send(happening).is_err() {
                return;
            }
        }
    }
}
