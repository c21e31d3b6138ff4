//! Exec sessions: how they begin, and how they end when their time is over.

use proto_node::monitor::{ErrorKind, Response};

use super::{Effect, Failure, Job, Kind, Now, Pod, Report, Session, Work, answer};

impl Pod {
    pub(super) fn exec_done(
        &mut self,
        now: Now,
        job: Job,
        result: Result<Report, Failure>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(session) = self.sessions.get_mut(&job) else { return };
        let pid = match result {
            Ok(Report::ExecStarted { pid }) => pid,
            Ok(_) | Err(_) => {
                let failure = result.err().unwrap_or_else(|| {
                    Failure::new(ErrorKind::Internal, "the worker reported something else")
                });
                if let Some(conn) = session.conn {
                    answer(effects, conn, failure);
                }
                self.sessions.remove(&job);
                return;
            }
        };
        session.pid = Some(pid);
        if session.expired {
            self.kill_session(job, effects);
        } else if let Some(conn) = session.conn {
            effects.push(Effect::Reply {
                conn,
                response: Response::ExecStarted { pid },
                terminal_of: Some(job),
            });
        }
        if let Some(exit_code) = self.unclaimed.remove(&pid) {
            self.ended(now, pid, exit_code, effects);
        }
    }

    pub(super) fn expire(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let due = |session: &Session| !session.expired && session.deadline.is_some_and(|at| at <= now.uptime);
        let jobs: Vec<Job> =
            self.sessions.iter().filter(|(_, session)| due(session)).map(|(job, _)| *job).collect();
        for job in jobs {
            let Some(session) = self.sessions.get_mut(&job) else { continue };
            session.expired = true;
            if session.pid.is_some() {
                self.kill_session(job, effects);
            } else {
                self.tell_expired(job, effects);
            }
        }
    }

    fn kill_session(&mut self, session: Job, effects: &mut Vec<Effect>) {
        let Some(Session { pid: Some(pid), container, .. }) = self.sessions.get(&session) else { return };
        let (pid, id) = (*pid, container.clone());
        let Some(target) = self.containers.get(&id).map(|container| container.target.clone()) else { return };
        let job = self.begin(&id, Kind::KillSession { session }, None);
        effects.push(Effect::Run { job, target, work: Work::KillSession { pid }, conn: None });
    }

    pub(super) fn tell_expired(&mut self, session: Job, effects: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get_mut(&session).filter(|session| session.expired) else { return };
        if let Some(conn) = session.conn.take() {
            let message =
                format!("the process in container {} ran out of time and was killed", session.container);
            answer(effects, conn, Failure::new(ErrorKind::DeadlineExceeded, message));
        }
    }
}
