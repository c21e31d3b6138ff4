//! Several daemons in one process: the end of one is the end of all, and each ends after those that need it.

use anyhow::Context as _;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Daemons that run side by side, in the order in which they were added: a later one may need an earlier one, so the
/// later ones are stopped first.
pub(crate) struct Parts {
    tasks: JoinSet<(usize, anyhow::Result<()>)>,
    stops: Vec<CancellationToken>,
}

impl Parts {
    pub(crate) fn new() -> Self {
        Self { tasks: JoinSet::new(), stops: Vec::new() }
    }

    /// Starts `part`, which is told to end through the token that it is made with.
    pub(crate) fn add<F, E>(&mut self, name: &'static str, part: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<anyhow::Error>,
    {
        let stop = CancellationToken::new();
        let (running, place) = (part(stop.clone()), self.stops.len());
        self.stops.push(stop);
        self.tasks.spawn(async move {
            let ended = running.await.map_err(Into::into);
            (place, ended.with_context(|| format!("the {name} ended")))
        });
    }

    /// Waits until `shutdown` is cancelled or a part has ended, then ends the others, last first.
    ///
    /// # Errors
    /// The first that a part ended with.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut ended = vec![false; self.stops.len()];
        let mut result = Ok(());
        tokio::select! {
            () = shutdown.cancelled() => {}
            Some(done) = self.tasks.join_next() => note(done, &mut ended, &mut result),
        }
        for place in (0..self.stops.len()).rev() {
            self.stops[place].cancel();
            while !ended[place] {
                match self.tasks.join_next().await {
                    Some(done) => note(done, &mut ended, &mut result),
                    None => break,
                }
            }
        }
        result
    }
}

fn note(
    done: Result<(usize, anyhow::Result<()>), tokio::task::JoinError>,
    ended: &mut [bool],
    result: &mut anyhow::Result<()>,
) {
    match done {
        Ok((place, outcome)) => {
            ended[place] = true;
            if result.is_ok() {
                *result = outcome;
            }
        }
        // Which one it was is not told: take all for ended, so that nobody waits for it.
        Err(panic) => {
            ended.fill(true);
            *result = Err(panic.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test]
    async fn the_last_ends_first_and_one_end_is_the_end_of_all() {
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut parts = Parts::new();
        for name in ["first", "second", "third"] {
            let order = order.clone();
            parts.add(name, |stop| async move {
                if name == "second" {
                    anyhow::bail!("broken");
                }
                stop.cancelled().await;
                order.lock().unwrap().push(name);
                Ok(())
            });
        }
        let error = parts.run(CancellationToken::new()).await.unwrap_err();
        assert_eq!(format!("{error:#}"), "the second ended: broken");
        assert_eq!(*order.lock().unwrap(), ["third", "first"]);
    }
}
