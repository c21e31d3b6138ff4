//! Images.

use std::time::Duration;

use agent_core::image::PullPolicy;
use agent_core::{data, pod};
use proto_cri as cri;
use tonic::Status;

use super::{EffectFailed, Effects, Order, Outcome};
use crate::credentials;
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
                let text = format!(
                    "Container image {image:?} already present on machine and can be accessed by the pod"
                );
                self.event(order, false, "Pulled", &text, Some(container));
                return Ok(Outcome::Image { reference, pulled: false });
            }
        }
        if policy == PullPolicy::Never {
            let text = format!("Container image {image:?} is not present with pull policy of Never");
            self.event(order, true, "ErrImageNeverPull", &text, Some(container));
            self.event(order, true, "Failed", "Error: ErrImageNeverPull", Some(container));
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
                self.event(order, true, "Failed", "Error: ErrImagePull", Some(container));
                Err(EffectFailed::new("ErrImagePull", status.message()))
            }
        }
    }

    /// The runtime's reference to an image, if it is on the node.
    async fn find(&self, image: &str) -> Result<Option<String>, Status> {
        let request = cri::ImageStatusRequest { image: Some(spec(image)), verbose: false };
        let reply = within(CALL, self.cri.images.clone().image_status(request)).await?;
        Ok(reply.image.map(|found| found.id).filter(|id| !id.is_empty()))
    }

    /// Pulls with the pod's credentials that fit, one after the other, or with those of the node.
    async fn pull(&self, order: &Order, image: &str) -> Result<String, Status> {
        let parts = self.sandbox_parts(order, order.sandbox_attempt).ok();
        let config = parts.map(|parts| crate::translate::sandbox(&order.pod, &parts));
        let mut auths: Vec<Option<cri::AuthConfig>> =
            self.credentials(order, image).await.into_iter().map(Some).collect();
        if auths.is_empty() {
            auths.push(None);
        }
        let mut last = Status::internal("no credentials");
        for auth in auths {
            let request =
                cri::PullImageRequest { image: Some(spec(image)), auth, sandbox_config: config.clone() };
            match within(PULL, self.cri.images.clone().pull_image(request)).await {
                Ok(reply) => {
                    linux::crash::point("agent.image.pulled");
                    return Ok(reply.image_ref);
                }
                Err(status) => last = status,
            }
        }
        Err(last)
    }

    /// The pod's own credentials for an image. One of its secrets that cannot be read is told of and left out.
    async fn credentials(&self, order: &Order, image: &str) -> Vec<cri::AuthConfig> {
        let wanted = data::pull_secrets(&order.pod);
        if wanted.is_empty() {
            return Vec::new();
        }
        let namespace = pod::namespace(&order.pod);
        self.objects.hold(&order.uid, namespace, data::of_pod(&order.pod));
        let secrets = self.objects.read(namespace, &wanted).await;
        let missing = secrets.0.iter().filter(|(_, data)| data.is_err()).map(|(r, _)| r.name.as_str());
        let missing: Vec<&str> = missing.collect();
        if !missing.is_empty() {
            let text = format!(
                "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                missing.join(", ")
            );
            self.event(order, true, "FailedToRetrieveImagePullSecret", &text, None);
        }
        credentials::fitting(secrets.0.values().flatten().map(|data| &**data), image)
    }
}

fn spec(image: &str) -> cri::ImageSpec {
    cri::ImageSpec { image: image.to_owned(), user_specified_image: image.to_owned(), ..Default::default() }
}
