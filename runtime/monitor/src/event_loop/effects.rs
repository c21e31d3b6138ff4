//! What the loop does when the state machine says so.

use std::os::fd::OwnedFd;

use linux::{crash, signalfd};
use proto_node::monitor::{EXIT_FILE, ErrorKind, ExitRecord, Response, VERSION};
use rustix::termios::{Winsize, tcsetwinsize};

use super::{EventLoop, note, now};
use crate::attach::Attached;
use crate::dial::{self, Dialed};
use crate::pod::{Conn, Effect, Event, Failure, Job, Target, Work};
use crate::stdio::Streams;
use crate::worker::{Stdio, Task, Worker};
use crate::{oom, record};

impl EventLoop {
    pub(super) fn carry_out(&mut self, effect: Effect, terminal: &mut Option<OwnedFd>) {
        match effect {
            Effect::Reply { conn, response, terminal_of } => {
                let carried = if terminal_of.is_some() { terminal.take() } else { None };
                self.reply(conn, &response, carried.as_ref());
            }
            Effect::Close { conn } => self.close(conn),
            Effect::Run { job, target, work, conn } => {
                if let Err(failure) = self.run_worker(job, target, work, conn) {
                    self.happened.push_back((Event::JobDone { job, result: Err(failure) }, None));
                }
            }
            Effect::Abort { job } => self.workers.get(&job).into_iter().for_each(Worker::kill),
            // It has not been reaped, so the number is still its own.
            Effect::Signal { pid, signal } => drop(signalfd::send(pid, signal)),
            Effect::Finish { target, exit_code, finished_at } => self.finish(target, exit_code, finished_at),
            Effect::Attach { conn, container } => self.attach(conn, container),
            Effect::Resize { conn, container, width, height } => {
                let size = Winsize { ws_col: width, ws_row: height, ws_xpixel: 0, ws_ypixel: 0 };
                let master = self.streams.get(&container).and_then(Streams::terminal);
                let resized = master.map(|master| tcsetwinsize(master, size));
                let response = match resized {
                    Some(Ok(())) => Response::Done,
                    Some(Err(error)) => internal(&container, &error).into(),
                    None => {
                        let message = format!("container {container}: its terminal is closed");
                        Failure::new(ErrorKind::FailedPrecondition, message).into()
                    }
                };
                self.last_reply(conn, &response);
            }
            Effect::ReopenLog { conn, container } => {
                let reopened = self.streams.get_mut(&container).map_or(Ok(()), Streams::reopen_log);
                let response =
                    reopened.map_or_else(|error| internal(&container, &error).into(), |()| Response::Done);
                self.last_reply(conn, &response);
            }
            Effect::Dial { conn, port } => self.dialed(conn, dial::begin(port)),
            Effect::Note { message } => note(&message),
            Effect::Forget { container } => {
                if let Some(mut streams) = self.streams.remove(&container) {
                    streams.flush(now().wall).into_iter().for_each(|text| note(&text));
                }
            }
            Effect::Quit => self.quit = true,
        }
    }

    fn run_worker(
        &mut self,
        job: Job,
        target: Target,
        work: Work,
        conn: Option<Conn>,
    ) -> Result<(), Failure> {
        let id = target.id.clone();
        let stdio = match &work {
            Work::Create(create) => {
                let opened = Streams::open(create);
                let (streams, stdio) = opened.map_err(|error| internal(&id, &error))?;
                self.streams.insert(id.clone(), streams);
                Some(stdio)
            }
            Work::Exec { .. } => {
                let client = conn.and_then(|conn| self.clients.get_mut(&conn));
                let given = client.map(|client| std::mem::take(&mut client.descriptors)).unwrap_or_default();
                Some(<[OwnedFd; 3]>::try_from(given).map_or(Stdio::Terminal, Stdio::Fds))
            }
            _ => None,
        };
        let task = Task { oci_root: self.oci_root.clone(), target, work };
        let worker = Worker::start(task, stdio).map_err(|error| internal(&id, &error))?;
        self.workers.insert(job, worker);
        Ok(())
    }

    fn finish(&mut self, target: Target, exit_code: i32, finished_at: i64) {
        let mut oom_killed = false;
        if let Some(streams) = self.streams.get_mut(&target.id) {
            streams.drain(now().wall).into_iter().for_each(|text| note(&text));
            oom_killed = streams.oom_file.as_deref().is_some_and(oom::killed);
        }
        let exit = ExitRecord { version: VERSION, exit_code, finished_at, oom_killed };
        crash::point("monitor.exit");
        if let Err(error) = record::write(&target.bundle, EXIT_FILE, &exit) {
            note(&format!("container {}: exit.json: {error}", target.id));
        }
        crash::point("monitor.recorded");
        // Before anything else that has happened: nobody must see the container in between.
        self.happened.push_front((Event::Recorded { container: target.id, exit }, None));
    }

    fn attach(&mut self, conn: Conn, container: String) {
        let Some(client) = self.clients.get_mut(&conn) else { return };
        let attached = Attached::new(conn, std::mem::take(&mut client.descriptors));
        if let Some(streams) = self.streams.get_mut(&container) {
            streams.attach(attached);
            client.attached = Some(container);
        }
    }

    pub(super) fn dialed(&mut self, conn: Conn, dialed: Dialed) {
        match dialed {
            Dialed::Pending(dialing) => {
                self.dialing.insert(conn, dialing);
            }
            Dialed::Connected(socket) => {
                self.reply(conn, &Response::Done, Some(&socket));
                self.close(conn);
            }
            Dialed::Refused(error) => {
                let message = format!("the pod's loopback: {error}");
                self.last_reply(conn, &Failure::new(ErrorKind::FailedPrecondition, message).into());
            }
        }
    }
}

fn internal(id: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(ErrorKind::Internal, format!("container {id}: {error}"))
}
