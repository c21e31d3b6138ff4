//! What each request asks of the pod's state: refuse it, answer it, or begin a job.

use std::time::Duration;

use proto_node::monitor::{ContainerStatus, Create, ErrorKind, Exec, Request, Response, Status, VERSION};

use super::{Conn, Container, Effect, Failure, Kind, Now, Phase, Pod, Session, Target, Work, answer};

impl Pod {
    pub(super) fn asked(
        &mut self,
        now: Now,
        conn: Conn,
        request: Request,
        descriptors: usize,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Failure> {
        match request {
            Request::Create(create) => return self.create(conn, create, effects),
            Request::Start { container } => {
                let found = self.idle(&container)?;
                match found.phase {
                    Phase::Created { .. } => self.run(conn, &container, Kind::Start, Work::Start, effects),
                    _ => return Err(found.wrong("only a created container can be started")),
                }
            }
            Request::Kill { container, signal, all } => {
                return self.kill(conn, &container, signal, all, effects);
            }
            Request::Delete { container } => return self.delete(conn, &container, effects),
            Request::Wait { container } => {
                let found = self.find(&container)?;
                match &found.phase {
                    Phase::Exited(exit) => answer(effects, conn, Response::Exited(exit.clone())),
                    _ => found.awaiting.push(conn),
                }
            }
            Request::Exec(exec) => return self.exec(now, conn, exec, descriptors, effects),
            Request::Attach { container } => return self.attach(conn, container, descriptors, effects),
            Request::Resize { container, width, height } => {
                let found = self.find(&container)?;
                if !found.terminal {
                    return Err(found.wrong("it has no terminal"));
                }
                effects.push(Effect::Resize { conn, container, width, height });
            }
            Request::ReopenLog { container } => {
                self.find(&container)?;
                effects.push(Effect::ReopenLog { conn, container });
            }
            Request::Update { container, resources } => {
                let found = self.idle(&container)?;
                if found.pid().is_none() {
                    return Err(found.wrong("only a living container has resources"));
                }
                self.run(conn, &container, Kind::Update, Work::Update { resources }, effects);
            }
            Request::Dial { port } => effects.push(Effect::Dial { conn, port }),
            Request::Status => answer(effects, conn, Response::Status(self.status())),
            Request::Watch => {
                self.watchers.insert(conn);
                effects.push(Effect::Reply { conn, response: Response::Done, terminal_of: None });
            }
            Request::Shutdown => {
                if let Some(container) = self.containers.values().find(|container| !container.ended()) {
                    return Err(
                        container.wrong("the monitor of a pod stays while one of its containers lives")
                    );
                }
                answer(effects, conn, Response::Done);
                effects.push(Effect::Quit);
            }
        }
        Ok(())
    }

    fn create(&mut self, conn: Conn, create: Create, effects: &mut Vec<Effect>) -> Result<(), Failure> {
        let id = create.container.clone();
        if let Some(found) = self.containers.get(&id) {
            return Err(found.wrong("its id is taken"));
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'+');
        if id.is_empty() || id.starts_with('.') || !id.bytes().all(plain) {
            let message = format!("container id {id:?}: expected letters, digits and -_.+");
            return Err(Failure::new(ErrorKind::InvalidArgument, message));
        }
        let target =
            Target { id: id.clone(), bundle: create.bundle.clone(), runtime: create.runtime.clone() };
        let job = self.begin(&id, Kind::Create, Some(conn));
        let phase = Phase::Creating { job, aborted: false };
        let container = Container {
            target: target.clone(),
            terminal: create.terminal,
            phase,
            busy: false,
            awaiting: Vec::new(),
            deleting: Vec::new(),
        };
        self.containers.insert(id, container);
        effects.push(Effect::Run { job, target, work: Work::Create(Box::new(create)), conn: None });
        Ok(())
    }

    fn kill(
        &mut self,
        conn: Conn,
        id: &str,
        signal: i32,
        all: bool,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Failure> {
        if !(1..=64).contains(&signal) {
            return Err(Failure::new(
                ErrorKind::InvalidArgument,
                format!("signal {signal}: expected 1 to 64"),
            ));
        }
        let found = self.find(id)?;
        match &mut found.phase {
            Phase::Creating { job, aborted } => {
                *aborted = true;
                effects.push(Effect::Abort { job: *job });
                answer(effects, conn, Response::Done);
            }
            Phase::Created { .. } | Phase::Running { .. } if all => {
                self.run(conn, id, Kind::Kill, Work::Kill { signal }, effects);
            }
            Phase::Created { pid, .. } | Phase::Running { pid, .. } => {
                effects.push(Effect::Signal { pid: *pid, signal });
                answer(effects, conn, Response::Done);
            }
            Phase::Sweeping { .. } | Phase::Ending | Phase::Exited(_) => {
                answer(effects, conn, Response::Done)
            }
        }
        Ok(())
    }

    fn delete(&mut self, conn: Conn, id: &str, effects: &mut Vec<Effect>) -> Result<(), Failure> {
        let Some(found) = self.containers.get_mut(id) else {
            answer(effects, conn, Response::Done);
            return Ok(());
        };
        match found.phase {
            Phase::Ending | Phase::Exited(_) => {
                // A start that has not reported yet, an update, or another deletion may be under way.
                found.deleting.push(conn);
                self.delete_next(id, effects);
            }
            // Its creation is undone as a whole, and this is told when that has happened.
            Phase::Creating { job, ref mut aborted } => {
                *aborted = true;
                effects.push(Effect::Abort { job });
                self.also_tell(id, Kind::Create, conn);
            }
            Phase::Sweeping { .. } => self.also_tell(id, Kind::Sweep, conn),
            Phase::Created { .. } | Phase::Running { .. } => {
                return Err(found.wrong("kill it before it is deleted"));
            }
        }
        Ok(())
    }

    fn exec(
        &mut self,
        now: Now,
        conn: Conn,
        exec: Exec,
        descriptors: usize,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Failure> {
        let found = self.find(&exec.container)?;
        if !matches!(found.phase, Phase::Running { .. }) {
            return Err(found.wrong("a process can only be run in a running container"));
        }
        let terminal = exec.process.get("terminal").and_then(serde_json::Value::as_bool).unwrap_or(false);
        let expected = if terminal { 0 } else { 3 };
        if descriptors != expected {
            let message =
                format!("exec in {}: expected {expected} descriptors, got {descriptors}", exec.container);
            return Err(Failure::new(ErrorKind::InvalidArgument, message));
        }
        let target = found.target.clone();
        let deadline = exec.timeout_ms.map(|timeout| now.uptime + Duration::from_millis(timeout));
        let job = self.begin(&exec.container, Kind::Exec, None);
        let session =
            Session { container: exec.container, conn: Some(conn), pid: None, deadline, expired: false };
        self.sessions.insert(job, session);
        effects.push(Effect::Run {
            job,
            target,
            work: Work::Exec { process: exec.process },
            conn: Some(conn),
        });
        Ok(())
    }

    fn attach(
        &mut self,
        conn: Conn,
        container: String,
        descriptors: usize,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Failure> {
        let found = self.find(&container)?;
        if found.pid().is_none() {
            return Err(found.wrong("only a living container can be attached to"));
        }
        if !(2..=3).contains(&descriptors) {
            let message = format!(
                "attach to {container}: expected stdout, stderr and perhaps stdin, got {descriptors} descriptors"
            );
            return Err(Failure::new(ErrorKind::InvalidArgument, message));
        }
        found.awaiting.push(conn);
        effects.push(Effect::Attach { conn, container });
        effects.push(Effect::Reply { conn, response: Response::Done, terminal_of: None });
        Ok(())
    }

    pub(super) fn run(&mut self, conn: Conn, id: &str, kind: Kind, work: Work, effects: &mut Vec<Effect>) {
        let job = self.begin(id, kind, Some(conn));
        let Some(container) = self.containers.get_mut(id) else { return };
        container.busy |= kind != Kind::Kill;
        effects.push(Effect::Run { job, target: container.target.clone(), work, conn: None });
    }

    pub(super) fn also_tell(&mut self, id: &str, kind: Kind, conn: Conn) {
        let job = self.jobs.values_mut().find(|pending| pending.kind == kind && pending.container == id);
        job.into_iter().for_each(|pending| pending.conns.push(conn));
    }

    fn find(&mut self, id: &str) -> Result<&mut Container, Failure> {
        let missing =
            || Failure::new(ErrorKind::NotFound, format!("container {id}: there is none in this pod"));
        self.containers.get_mut(id).ok_or_else(missing)
    }

    /// The container, if no other request is changing it.
    fn idle(&mut self, id: &str) -> Result<&mut Container, Failure> {
        let found = self.find(id)?;
        if found.busy { Err(found.wrong("another request is changing it, try again")) } else { Ok(found) }
    }

    pub(super) fn status(&self) -> Status {
        let told = |container: &Container| match container.phase {
            Phase::Created { pid, .. } => Some(ContainerStatus::Created { pid }),
            Phase::Running { pid, started_at, .. } => Some(ContainerStatus::Running { pid, started_at }),
            Phase::Exited(ref exit) => Some(ContainerStatus::Exited(exit.clone())),
            Phase::Creating { .. } | Phase::Sweeping { .. } | Phase::Ending => None,
        };
        let containers = self.containers.iter();
        let containers =
            containers.filter_map(|(id, container)| Some((id.clone(), told(container)?))).collect();
        Status { version: VERSION, containers }
    }
}

impl Container {
    fn wrong(&self, why: &str) -> Failure {
        let state = match self.phase {
            Phase::Creating { .. } => "being created",
            Phase::Sweeping { .. } => "being removed",
            Phase::Created { .. } => "created",
            Phase::Running { .. } => "running",
            Phase::Ending | Phase::Exited(_) => "exited",
        };
        Failure::new(ErrorKind::FailedPrecondition, format!("container {} is {state}: {why}", self.target.id))
    }
}
