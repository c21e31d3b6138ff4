//! Images.

use std::time::Duration;

use agent_core::image::PullPolicy;
use proto_cri as cri;
use tonic::Status;

use super::{EffectFailed, Effects, Order, Outcome};
use crate::cri::{CALL, within};

/// A pull has no deadline of its own: this only ends one whose server forgot it.
const PULL: Duration = Duration::from_secs(24 * 3600);

impl Effects {
    pub(super) async fn ensure_image(
        &self,
        order: &Order,
        image: &str,
        policy: PullPolicy,
        container: &str,
    ) -> Result<Outcome, EffectFailed> {
        if policy != PullPolicy::Always {
            let text = |status: Status| format!("Failed to inspect image {image:?}: {}", status.message());
            let found =
                self.find(image).await.map_err(|s| EffectFailed::new("ImageInspectError", text(s)))?;
            if let Some(reference) = found {
                let text = format!("Container image {image:?} already present on machine");
                self.event(order, false, "Pulled", &text, Some(container));
                return Ok(Outcome::Image { reference, pulled: false });
            }
        }
        if policy == PullPolicy::Never {
            let text = format!("Container image {image:?} is not present with pull policy of Never");
            self.event(order, true, "ErrImageNeverPull", &text, Some(container));
            return Err(EffectFailed::new("ErrImageNeverPull", text));
        }
        let _turn = self.pulls.acquire().await;
        self.event(order, false, "Pulling", &format!("Pulling image {image:?}"), Some(container));
        let begun = tokio::time::Instant::now();
        match self.pull(order, image).await {
            Ok(reference) => {
                let text =
                    format!("Successfully pulled image {image:?} in {:.3}s", begun.elapsed().as_secs_f64());
                self.event(order, false, "Pulled", &text, Some(container));
                Ok(Outcome::Image { reference, pulled: true })
            }
            Err(status) => {
                let text = format!("Failed to pull image {image:?}: {}", status.message());
                self.event(order, true, "Failed", &text, Some(container));
                Err(EffectFailed::new("ErrImagePull", text))
            }
        }
    }

    /// The runtime's reference to an image, if it is on the node.
    async fn find(&self, image: &str) -> Result<Option<String>, Status> {
        let request = cri::ImageStatusRequest { image: Some(spec(image)), verbose: false };
        let reply = within(CALL, self.cri.images.clone().image_status(request)).await?;
        Ok(reply.image.map(|found| found.id).filter(|id| !id.is_empty()))
    }

    async fn pull(&self, order: &Order, image: &str) -> Result<String, Status> {
        let config = crate::translate::sandbox(&order.pod, &self.sandbox_parts(order, order.sandbox_attempt));
        let request =
            cri::PullImageRequest { image: Some(spec(image)), auth: None, sandbox_config: Some(config) };
        let reply = within(PULL, self.cri.images.clone().pull_image(request)).await?;
        linux::crash::point("agent.image.pulled");
        Ok(reply.image_ref)
    }
}

fn spec(image: &str) -> cri::ImageSpec {
    cri::ImageSpec { image: image.to_owned(), user_specified_image: image.to_owned(), ..Default::default() }
}
