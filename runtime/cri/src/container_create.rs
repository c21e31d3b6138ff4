//! CreateContainer: record, snapshot, spec, bundle, and the monitor's part.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_spec::runtime::Spec;
use proto_cri::{
    ContainerConfig, ContainerEventType, CreateContainerRequest, CreateContainerResponse, NamespaceMode,
};
use proto_node::monitor::{Create, Overlay, Runtime as MonitorRuntime};
use tokio::sync::watch;

use crate::config::Runtime;
use crate::crash;
use crate::error::Failure;
use crate::host;
use crate::layers::{self, Found};
use crate::lifecycle::{Claim, Phase, Verdict, may_create, may_repeat};
use crate::node::{Container, Node, Pod, blocking, lock, new_id, now, outcome};
use crate::plan::{self, Filter, Source};
use crate::record;
use crate::seccomp;

/// Account files are read up to this size.
const ACCOUNT_BYTES_MAX: u64 = 1 << 20;

/// What is on the disk when the monitor is asked.
struct Prepared {
    create: Create,
    record: record::Container,
}

impl Node {
    /// A repeated identical call joins the first one, and gets its container while that has not been started.
    pub(crate) async fn create_container(
        self: &Arc<Self>,
        request: CreateContainerRequest,
    ) -> Result<CreateContainerResponse, Failure> {
        let pod = self.pod(&request.pod_sandbox_id)?;
        let config = request.config.unwrap_or_default();
        ready(&pod)?;
        plan::validate(&config, &pod.state.borrow().config)?;
        let metadata = config.metadata.clone().unwrap_or_default();
        let key = (pod.id.clone(), metadata.name, metadata.attempt);
        let id = new_id()?;
        let (done, ended) = watch::channel(None);
        let claim = lock(&self.container_names).claim(key, &id, config.clone(), ended.clone());
        match claim {
            Claim::Begin => {
                let node = self.clone();
                self.tasks.spawn(async move {
                    let result = node.make_container(&id, &pod, config).await;
                    if result.is_err() {
                        lock(&node.container_names).release(&id);
                    }
                    done.send_replace(Some(result.map(|()| id)));
                });
                Ok(CreateContainerResponse { container_id: outcome(ended).await? })
            }
            Claim::Join { id, outcome: joined } => {
                outcome(joined).await?;
                let fits = self.container(&id).is_ok_and(|one| may_repeat(one.state.borrow().phase));
                let taken =
                    || Failure::Exists(format!("the name is taken by container {id}: remove it first"));
                if fits { Ok(CreateContainerResponse { container_id: id }) } else { Err(taken()) }
            }
            Claim::Conflict { id } => Err(Failure::Exists(format!(
                "the name is taken by container {id}, which has another configuration"
            ))),
        }
    }

    async fn make_container(
        self: &Arc<Self>,
        id: &str,
        pod: &Arc<Pod>,
        config: ContainerConfig,
    ) -> Result<(), Failure> {
        let mut record = record::Container::new(id, &pod.id, config, now());
        record.cgroup = plan::cgroups_path(&self.cgroup_parent(&pod.record()), id);
        let container = Container::new(record);
        let _pod_gate = pod.gate.read().await;
        ready(pod)?;
        let _gate = container.gate.lock().await;
        self.note_container(&container)?;
        crash::point("container.recorded");
        lock(&self.containers).insert(id.to_owned(), container.clone());
        let made = self.prepare_and_create(&container, pod).await;
        let Err(failure) = made else {
            self.emit(id, &pod.id, ContainerEventType::ContainerCreatedEvent);
            return Ok(());
        };
        match self.dismantle(&container).await {
            Ok(()) => Err(failure),
            Err(undo) => Err(failure.and(&[undo.to_string()])),
        }
    }

    async fn prepare_and_create(
        self: &Arc<Self>,
        container: &Arc<Container>,
        pod: &Arc<Pod>,
    ) -> Result<(), Failure> {
        let (node, record, pod_record) = (self.clone(), container.record(), pod.record());
        let prepared = blocking(move || node.prepare_container(record, &pod_record)).await?;
        let pid = self.monitor(&pod.id).create(prepared.create).await?;
        crash::point("container.made");
        container.state.send_modify(|record| {
            *record = prepared.record;
            record.pid = Some(pid);
            record.phase = Phase::Created;
        });
        let (node, container) = (self.clone(), container.clone());
        blocking(move || {
            let _writing = lock(&container.writing);
            let saved = node.container_records.save(&container.record());
            saved.map_err(Failure::io("write a record in", &node.config.data_dir))
        })
        .await?;
        crash::point("container.created");
        Ok(())
    }

    fn prepare_container(
        &self,
        mut record: record::Container,
        pod: &record::Pod,
    ) -> Result<Prepared, Failure> {
        let config = record.config.clone();
        let wished = config.image.as_ref().map(|image| image.image.as_str()).unwrap_or_default();
        let image = self.image(wished)?;
        let snapshot = self.snapshots.prepare(&record.id, image.id.as_str());
        let snapshot =
            snapshot.map_err(|error| Failure::internal("cannot prepare the root file system", &error))?;
        crash::point("container.snapshotted");
        let accounts = plan::Accounts {
            passwd: self.account(&snapshot.lower, "/etc/passwd")?,
            group: self.account(&snapshot.lower, "/etc/group")?,
        };
        let user = plan::user(&plan::context(&config), &image.config.user, &accounts)?;
        record.image = image.id.as_str().to_owned();
        record.image_name =
            image.tags.first().or(image.digests.first()).cloned().unwrap_or_else(|| wished.to_owned());
        (record.uid, record.gid, record.groups) = (user.uid, user.gid, user.groups.clone());
        record.stop_signal = plan::signal_of_cri(config.stop_signal())
            .or_else(|| plan::signal_number(&image.config.stop_signal))
            .unwrap_or(15);
        let parent = self.cgroup_parent(pod);
        record.log_path = log_path(&pod.config.log_directory, &config.log_path);
        if let Some(dir) = record.log_path.as_ref().and_then(|path| path.parent()) {
            fs::create_dir_all(dir).map_err(Failure::io("make", dir))?;
        }
        let spec = self.spec(&record, pod, &image, &user, &parent)?;
        let bundle = self.write_bundle(&record.id, &spec)?;
        crash::point("container.bundled");
        let create = Create {
            container: record.id.clone(),
            bundle,
            runtime: self.runtime(&pod.handler),
            overlay: Overlay { lower: snapshot.lower, upper: snapshot.upper, work: snapshot.work },
            log_path: record.log_path.clone(),
            terminal: config.tty,
            stdin: config.stdin,
            stdin_once: config.stdin_once,
        };
        Ok(Prepared { create, record })
    }

    fn account(&self, layers: &[PathBuf], path: &str) -> Result<String, Failure> {
        layers::read(layers, path, ACCOUNT_BYTES_MAX)
            .map_err(Failure::io("read the image's", Path::new(path)))
    }

    /// The cgroup that a pod's containers are in: the client's, else one of our own.
    pub(crate) fn cgroup_parent(&self, pod: &record::Pod) -> String {
        let wished = pod.config.linux.as_ref().map_or("", |linux| &linux.cgroup_parent);
        if wished.is_empty() { self.own_cgroup(&pod.id) } else { format!("/{}", wished.trim_matches('/')) }
    }

    /// The cgroup of a pod whose client named none.
    pub(crate) fn own_cgroup(&self, pod: &str) -> String {
        format!("/{}/{pod}", self.config.cgroup_parent.trim_matches('/'))
    }

    fn runtime(&self, handler: &str) -> MonitorRuntime {
        match self.config.runtimes.get(handler) {
            Some(Runtime::Program(path)) => MonitorRuntime::Program { path: path.clone() },
            _ => MonitorRuntime::BuiltIn,
        }
    }

    fn spec(
        &self,
        record: &record::Container,
        pod: &record::Pod,
        image: &image::Image,
        user: &plan::User,
        parent: &str,
    ) -> Result<Spec, Failure> {
        let config = &record.config;
        let context = plan::context(config);
        let facts = plan::Image {
            entrypoint: image.config.entrypoint.clone(),
            cmd: image.config.cmd.clone(),
            env: image.config.env.clone(),
            working_dir: image.config.working_dir.clone(),
        };
        let monitor = pod.monitor.as_ref();
        let place = plan::Pod {
            id: &pod.id,
            dir: self.pod_dir(&pod.id),
            monitor_pid: monitor.map_or(0, |monitor| monitor.pid),
            pause_pid: monitor.and_then(|monitor| monitor.pause_pid),
            target_pid: self.target_pid(&pod.id, config),
            cgroup_parent: parent,
            config: pod.config.clone(),
        };
        let devices = host::devices(&config.devices, context.privileged)?;
        let container = plan::Container {
            id: &record.id,
            config,
            image: &facts,
            image_name: &record.image_name,
            user,
            sources: &self.sources(&record.id, config)?,
            devices,
            seccomp: None,
        };
        let mut spec = plan::spec(&container, &place, &self.host)?;
        #[expect(deprecated, reason = "clients older than Kubernetes 1.19 send it")]
        let filter =
            plan::filter(context.privileged, context.seccomp.as_ref(), &context.seccomp_profile_path)?;
        let profile = match filter {
            Filter::None => None,
            Filter::Default => {
                let sets = spec.process().as_ref().and_then(|process| process.capabilities().clone());
                let bounding = sets.and_then(|sets| sets.bounding().clone()).unwrap_or_default();
                Some(seccomp::default_profile(&bounding))
            }
            Filter::File(path) => Some(seccomp::read_profile(&path).map_err(|error| {
                Failure::Invalid(format!("linux.security_context.seccomp: {}", crate::error::chain(&error)))
            })?),
        };
        if let Some(linux) = spec.linux_mut() {
            linux.set_seccomp(profile);
        }
        Ok(spec)
    }

    fn target_pid(&self, pod: &str, config: &ContainerConfig) -> Option<u32> {
        let options = plan::context(config).namespace_options?;
        if options.pid() != NamespaceMode::Target {
            return None;
        }
        let target = self.container(&options.target_id).ok()?;
        let target = target.state.borrow();
        (target.pod == pod && target.phase <= Phase::Running).then_some(target.pid).flatten()
    }

    /// What each mount of the configuration is on this machine.
    fn sources(&self, id: &str, config: &ContainerConfig) -> Result<Vec<Source>, Failure> {
        let source = |(index, mount): (usize, &proto_cri::Mount)| match &mount.image {
            None => host::mount_source(index, mount).map(Source::Path),
            Some(wished) => {
                let image = self.image(&wished.image)?;
                let owner = format!("{id}.volume{index}");
                let layers = self.snapshots.view(&owner, image.id.as_str());
                let layers =
                    layers.map_err(|error| Failure::internal("cannot prepare the image volume", &error))?;
                match layers::find(&layers, Path::new(&mount.image_sub_path)) {
                    Ok(Some(Found::Directory(parts))) => Ok(Source::Layers(parts)),
                    Ok(Some(Found::File(path))) => Ok(Source::Path(path)),
                    Ok(None) => Err(Failure::Invalid(format!(
                        "mounts[{index}].image_sub_path: {:?} is not in image {}",
                        mount.image_sub_path, wished.image
                    ))),
                    Err(error) => Err(Failure::Invalid(format!("mounts[{index}].image_sub_path: {error}"))),
                }
            }
        };
        config.mounts.iter().enumerate().map(source).collect()
    }

    fn write_bundle(&self, id: &str, spec: &Spec) -> Result<PathBuf, Failure> {
        let bundle = self.bundle(id);
        fs::create_dir_all(bundle.join("rootfs")).map_err(Failure::io("make", &bundle))?;
        let path = bundle.join("config.json");
        let text =
            serde_json::to_vec(spec).map_err(|error| Failure::internal("cannot write the spec", &error))?;
        fs::write(&path, text).map_err(Failure::io("write", &path))?;
        Ok(bundle)
    }

    /// The image of a name or id that a client gave.
    pub(crate) fn image(&self, wished: &str) -> Result<image::Image, Failure> {
        let found =
            self.images.get(wished).map_err(|error| Failure::internal("cannot look up the image", &error))?;
        found.ok_or_else(|| Failure::NotFound { kind: "image", id: wished.to_owned() })
    }

    pub(crate) fn note_container(&self, container: &Container) -> Result<(), Failure> {
        let _writing = lock(&container.writing);
        let noted = self.container_records.note(&container.record());
        noted.map_err(Failure::io("write a record in", &self.config.data_dir))
    }
}

fn ready(pod: &Pod) -> Result<(), Failure> {
    match may_create(pod.state.borrow().phase) {
        Verdict::Refuse(why) => Err(Failure::Precondition(format!("sandbox {} {why}", pod.id))),
        Verdict::Go | Verdict::Done => Ok(()),
    }
}

fn log_path(directory: &str, path: &str) -> Option<PathBuf> {
    (!path.is_empty() && !directory.is_empty()).then(|| Path::new(directory).join(path))
}
