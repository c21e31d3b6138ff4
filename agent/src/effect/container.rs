//! Containers.

use std::borrow::Cow;
use std::time::Duration;

use agent_core::env::{self, Facts, Sources};
use agent_core::{data, pod, service};
use k8s_openapi::api::core::v1::Container as Spec;
use proto_cri as cri;
use proto_kube::view::View;
use tonic::Code;

use super::sandbox::gone_is_done;
use super::{EffectFailed, Effects, Order, chain};
use crate::config::known;
use crate::cri::{CALL, within};
use crate::translate::{self, ContainerParts};
use crate::volume::{self, ContainerMounts};

pub(crate) const CONFIG: &str = "CreateContainerConfigError";
/// How long the list of services is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
const CREATE: &str = "CreateContainerError";
const RUN: &str = "RunContainerError";

impl Effects {
    fn spec<'a>(order: &'a Order, name: &str) -> Result<Cow<'a, Spec>, EffectFailed> {
        let text = || format!("container {name} is not in the pod");
        pod::container(&order.pod, name).ok_or_else(|| EffectFailed::new(CONFIG, text()))
    }

    pub(super) async fn create_container(
        &self,
        order: &Order,
        name: &str,
        sandbox: &str,
        (attempt, crashes): (u32, u32),
        image: &str,
    ) -> Result<(), EffectFailed> {
        let result = self.try_create(order, name, sandbox, (attempt, crashes), image).await;
        match &result {
            Ok(()) => self.event(order, false, "Created", "Container created", Some(name)),
            Err(failed) => {
                self.event(order, true, "Failed", &format!("Error: {}", failed.message), Some(name))
            }
        }
        linux::crash::point("agent.container.made");
        result
    }

    async fn try_create(
        &self,
        order: &Order,
        name: &str,
        sandbox: &str,
        (attempt, crashes): (u32, u32),
        image: &str,
    ) -> Result<(), EffectFailed> {
        let spec = Self::spec(order, name)?;
        let pod_ips = self.addresses(order);
        let facts = Facts { pod: &order.pod, uid: &order.uid, pod_ips: &pod_ips, node: &order.node };
        let sources = self.sources(order, &spec).await?;
        let environment = env::variables(&facts, &sources, &spec)
            .map_err(|problem| EffectFailed::new(CONFIG, problem.to_string()))?;
        self.refuse_root(order, &spec, image).await?;
        let mounts = self.mounts(order, &spec, attempt, pod_ips.clone(), environment.clone()).await?;
        let parts = ContainerParts {
            sandbox: self.sandbox_parts(order, order.sandbox_attempt)?,
            attempt,
            crashes,
            image: image.to_owned(),
            environment,
            mounts,
            target: order.target.clone(),
            node_memory_bytes: order.node.memory_bytes,
        };
        let logs = self.log_dir(&order.pod, &order.uid).join(name);
        super::blocking(CREATE, move || std::fs::create_dir_all(&logs)).await?;
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(translate::container(&order.pod, &spec, &parts)),
            sandbox_config: Some(translate::sandbox(&order.pod, &parts.sandbox)),
        };
        match within(CALL, self.cri.runtime.clone().create_container(request)).await {
            Ok(_) => Ok(()),
            Err(status) => Err(EffectFailed {
                image_gone: status.code() == Code::NotFound,
                ..EffectFailed::new(CREATE, status.message())
            }),
        }
    }

    /// What the container's variables are filled from.
    async fn sources(&self, order: &Order, spec: &Spec) -> Result<Sources, EffectFailed> {
        let (pod, namespace) = (&order.pod, pod::namespace(&order.pod));
        self.objects.hold(&order.uid, namespace, data::of_pod(pod));
        let objects = self.objects.read(namespace, &data::of_container(spec)).await;
        let services = self.services(order).await?;
        let vars = spec.env.iter().flatten();
        let wanted = vars.filter_map(|var| var.value_from.as_ref()?.file_key_ref.as_ref());
        let wanted: Vec<_> = wanted.map(|f| (f.volume_name.clone(), f.path.clone())).collect();
        let (dir, pod) = (self.dir(&order.uid), pod.clone());
        let read = move || {
            let file = |(volume, path): (String, String)| {
                let content = volume::read(&dir, &pod, &volume, &path).map_err(|error| chain(&error));
                ((volume, path), content)
            };
            wanted.into_iter().map(file).collect()
        };
        let files = tokio::task::spawn_blocking(read).await;
        let files = files.map_err(|error| EffectFailed::new(CONFIG, error.to_string()))?;
        Ok(Sources { objects, services, files })
    }

    /// The variables that tell of services.
    async fn services(&self, order: &Order) -> Result<Vec<(String, String)>, EffectFailed> {
        let Some(api) = &self.config.api else { return Ok(Vec::new()) };
        let resource = known("", "v1", "services");
        let synced = tokio::time::timeout(PATIENCE, api.cache.synced(&[resource])).await;
        if synced.is_err() && pod::is_of_api(&order.pod) {
            let text = "services have not yet been read at least once, cannot construct envvars";
            return Err(EffectFailed::new(CONFIG, text));
        }
        let all = api.cache.list(resource.group_resource(), "");
        let links = pod::spec(&order.pod).enable_service_links != Some(false);
        Ok(service::variables(all.iter().map(|s| &**s), pod::namespace(&order.pod), links))
    }

    /// The pod's addresses as the downward API tells them.
    pub(super) fn addresses(&self, order: &Order) -> Vec<String> {
        let ips = if pod::host_network(&order.pod) { &order.node.ips } else { &order.pod_ips };
        ips.iter().map(ToString::to_string).collect()
    }

    /// `runAsNonRoot`: the user must be known not to be root before the container is made.
    async fn refuse_root(&self, order: &Order, spec: &Spec, image: &str) -> Result<(), EffectFailed> {
        let own = spec.security_context.as_ref();
        let of_pod = pod::spec(&order.pod).security_context.as_ref();
        let wanted = own.and_then(|s| s.run_as_non_root).or(of_pod.and_then(|s| s.run_as_non_root));
        if wanted != Some(true) {
            return Ok(());
        }
        let refused = |text: &str| Err(EffectFailed::new(CONFIG, text));
        match own.and_then(|s| s.run_as_user).or(of_pod.and_then(|s| s.run_as_user)) {
            Some(0) => return refused("container's runAsUser breaks non-root policy"),
            Some(_) => return Ok(()),
            None => {}
        }
        let request = cri::ImageStatusRequest {
            image: Some(cri::ImageSpec { image: image.to_owned(), ..Default::default() }),
            verbose: false,
        };
        let status = within(CALL, self.cri.images.clone().image_status(request)).await;
        let found = status.map_err(|status| EffectFailed::new("ImageInspectError", status.message()))?.image;
        match found {
            Some(image) if image.uid.is_some_and(|uid| uid.value == 0) => {
                refused("container has runAsNonRoot and image will run as root")
            }
            Some(image) if image.uid.is_none() && !image.username.is_empty() => refused(&format!(
                "container has runAsNonRoot and image has non-numeric user ({}), cannot verify user is non-root",
                image.username
            )),
            Some(image) if image.uid.is_none() => {
                refused("container has runAsNonRoot and image will run as root")
            }
            _ => Ok(()),
        }
    }

    pub(super) async fn start_container(
        &self,
        order: &Order,
        name: &str,
        id: &str,
    ) -> Result<(), EffectFailed> {
        let request = cri::StartContainerRequest { container_id: id.to_owned() };
        let result = within(CALL, self.cri.runtime.clone().start_container(request)).await;
        linux::crash::point("agent.container.started");
        match result {
            Ok(_) => {
                self.event(order, false, "Started", "Container started", Some(name));
                Ok(())
            }
            Err(status) => {
                self.event(order, true, "Failed", &format!("Error: {}", status.message()), Some(name));
                Err(EffectFailed::new(RUN, status.message()))
            }
        }
    }

    /// Tells the kernel of a container's new resources. Its pod's cgroup has to have room for them, and may shrink only
    /// when all its containers have; so it is told before and after, and only the last answer counts.
    pub(super) async fn resize_container(
        &self,
        order: &Order,
        name: &str,
        id: &str,
    ) -> Result<(), EffectFailed> {
        let spec = Self::spec(order, name)?;
        let before = self.prepare_cgroup(order).await;
        let linux = translate::container_resources(&order.pod, &spec, order.node.memory_bytes);
        let request = cri::UpdateContainerResourcesRequest {
            container_id: id.to_owned(),
            linux: Some(linux),
            ..Default::default()
        };
        let result = within(CALL, self.cri.runtime.clone().update_container_resources(request)).await;
        result.map_err(|status| EffectFailed::new("ResizeError", status.message()))?;
        if before.is_err()
            && let Err(failed) = self.prepare_cgroup(order).await
        {
            tracing::info!(pod.uid = %order.uid, "the pod's cgroup waits for its other containers: {}", failed.message);
        }
        Ok(())
    }

    pub(super) async fn stop_container(
        &self,
        order: &Order,
        name: &str,
        id: &str,
        grace_seconds: i64,
        reason: &str,
    ) -> Result<(), EffectFailed> {
        let text =
            if reason == "Stopping container" { format!("{reason} {name}") } else { reason.to_owned() };
        self.event(order, false, "Killing", &text, Some(name));
        linux::crash::point("agent.container.stopping");
        let result = self.hurry_container(id, grace_seconds).await;
        linux::crash::point("agent.container.stopped");
        result
    }

    /// Stops a container, or lets one that is being stopped have no more time than this.
    pub(super) async fn hurry_container(&self, id: &str, grace_seconds: i64) -> Result<(), EffectFailed> {
        let request = cri::StopContainerRequest { container_id: id.to_owned(), timeout: grace_seconds };
        let limit = CALL + Duration::from_secs(grace_seconds.unsigned_abs());
        let result = within(limit, self.cri.runtime.clone().stop_container(request)).await;
        gone_is_done(result).map_err(|status| EffectFailed::new("FailedKillPod", status.message()))
    }

    pub(super) async fn remove_container(
        &self,
        order: &Order,
        name: &str,
        id: &str,
    ) -> Result<(), EffectFailed> {
        let request = cri::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        let status = within(CALL, self.cri.runtime.clone().container_status(request)).await;
        let log = status.ok().and_then(|s| s.status).map(|s| s.log_path).filter(|path| !path.is_empty());
        let request = cri::RemoveContainerRequest { container_id: id.to_owned() };
        let result = within(CALL, self.cri.runtime.clone().remove_container(request)).await;
        linux::crash::point("agent.container.removed");
        gone_is_done(result)
            .map_err(|status| EffectFailed::new("FailedRemoveContainer", status.message()))?;
        if let Some(log) = log {
            let task = move || crate::rotate::remove(std::path::Path::new(&log));
            super::blocking("FailedRemoveContainer", task).await?;
        }
        tracing::debug!(pod.uid = %order.uid, container.id = %id, "removed container {name}");
        Ok(())
    }

    /// What is mounted into the container.
    async fn mounts(
        &self,
        order: &Order,
        spec: &Spec,
        attempt: u32,
        pod_ips: Vec<String>,
        environment: Vec<(String, String)>,
    ) -> Result<Vec<cri::Mount>, EffectFailed> {
        let (dir, domain) = (self.dir(&order.uid), self.config.cluster_domain.clone());
        let (pod, spec) = (order.pod.clone(), spec.clone());
        let task = tokio::task::spawn_blocking(move || {
            let of = ContainerMounts {
                dir: &dir,
                pod: &pod,
                spec: &spec,
                attempt,
                pod_ips: &pod_ips,
                environment: &environment,
                domain: &domain,
            };
            volume::container_mounts(&of)
        });
        match task.await {
            Ok(result) => result.map_err(|error| EffectFailed::new(CONFIG, chain(&error))),
            Err(error) => Err(EffectFailed::new(CONFIG, error.to_string())),
        }
    }
}
