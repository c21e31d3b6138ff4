//! The cluster: whoever has something to do does it in an order that the dice give, while people and faults come and go.

use std::time::Duration;

use fastrand::Rng;
use proto_kube::{object, pod as kube_pod};
use serde_json::Value;

use crate::control::{self, Control};
use crate::laws::{self, Laws};
use crate::node::{self, Node};
use crate::people;
use crate::place::Placer;
use crate::proxy::Proxy;
use crate::server::Server;
use crate::time::{Now, seconds};

/// How many things may happen in a run; one that needs more does not come to rest.
const STEPS_MAX: usize = 60_000;
/// What all nodes together have for pods, in thousandths of a core; a pod asks for one to three hundred.
const ROOMS: [i64; 4] = [1200, 2000, 3000, 6000];
/// How long after the last fault everything must be as it should, and how often that is looked at. A container that ended
/// by a clock that has gone back since is started again when that time is over once more.
const REST: Duration = seconds(600);
const LOOK: Duration = seconds(60);
/// How long [`run_away`]'s control plane is away.
const AWAY: Duration = seconds(3600);

/// A law that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Which, and how.
    pub law: String,
    /// After so many steps.
    pub steps: usize,
    /// Each step, a line; only when asked for.
    pub log: Vec<String>,
}

/// What is going on.
struct Cluster {
    rng: Rng,
    now: Duration,
    server: Server,
    /// None while it does not run, until when.
    control: Result<Control, Duration>,
    placer: Result<Placer, Duration>,
    proxy: Proxy,
    nodes: Vec<Node>,
    /// How far the clock of the controllers is ahead, in seconds.
    ahead: i64,
    laws: Laws,
    steps: usize,
    steps_max: usize,
    /// When people do something next, and when something goes wrong.
    people_at: Duration,
    fault_at: Duration,
    /// The longest peace between two faults, in milliseconds.
    pace: u64,
    /// When both leave the cluster alone.
    end: Duration,
}

/// Runs the cluster of a seed; how many steps it took, and each in words if `log`.
///
/// # Errors
/// The first law that did not hold.
pub fn run(seed: u64, log: bool) -> Result<(usize, Vec<String>), Broken> {
    told(seed, log, Cluster::live)
}

/// The same, and when the cluster has come to rest its control plane is away for an hour: containers that end meanwhile
/// run again, and nobody is sent away for it.
///
/// # Errors
/// The first law that did not hold.
pub fn run_away(seed: u64, log: bool) -> Result<(usize, Vec<String>), Broken> {
    told(seed, log, |cluster| {
        cluster.live()?;
        cluster.lose_control_plane()
    })
}

fn told(
    seed: u64,
    log: bool,
    life: impl FnOnce(&mut Cluster) -> Result<(), String>,
) -> Result<(usize, Vec<String>), Broken> {
    let mut cluster = Cluster::new(seed, log);
    let law = life(&mut cluster);
    let (steps, log) = (cluster.steps, cluster.server.words.unwrap_or_default());
    match law {
        Ok(()) => Ok((steps, log)),
        Err(law) => Err(Broken { law, steps, log }),
    }
}

/// Whether a pod has a node and containers that run for ever.
fn lasts(pod: &Value) -> bool {
    !object::text(pod, &["spec", "nodeName"]).is_empty()
        && object::text(pod, &["spec", "restartPolicy"]) == "Always"
        && !object::is_terminating(pod)
        && !kube_pod::has_ended(pod)
}

impl Cluster {
    fn new(seed: u64, log: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let now = Now::new(Duration::ZERO, 0);
        let mut server = Server::default();
        server.words = log.then(Vec::new);
        let calm = rng.u8(..4) == 0;
        people::begin(&mut server, now.clock, calm, &mut rng);
        let count = rng.u8(1..4);
        let room = *rng.choice(&ROOMS).expect("there are some") / i64::from(count);
        let mut nodes: Vec<Node> = (0..count).map(|n| Node::new(n, room)).collect();
        nodes.iter_mut().for_each(|node| node.start(now));
        server.trouble = if calm { 0 } else { *rng.choice(&[0, 3, 10, 40]).expect("there are some") };
        server.slowness = *rng.choice(&[0, 5, 100, 3000]).expect("there are some");
        Self {
            control: Ok(Control::new(&mut server)),
            placer: Ok(Placer::new(&mut server, now)),
            proxy: Proxy::new(&mut server),
            laws: Laws::new(calm),
            people_at: seconds(rng.u64(20..60)),
            fault_at: if calm { Duration::MAX } else { seconds(rng.u64(1..40)) },
            pace: *rng.choice(&[2_000, 10_000, 40_000]).expect("there are some"),
            end: seconds(rng.u64(60..240)),
            rng,
            now: Duration::ZERO,
            server,
            nodes,
            ahead: 0,
            steps: 0,
            steps_max: STEPS_MAX,
        }
    }

    fn live(&mut self) -> Result<(), String> {
        while self.now < self.end {
            self.step()?;
        }
        self.calm_down();
        self.come_to_rest()
    }

    /// Goes on until everything is as it should.
    fn come_to_rest(&mut self) -> Result<(), String> {
        let rest = self.now + REST;
        loop {
            let look = self.now + LOOK;
            while self.now < look {
                self.step()?;
            }
            let mut unmet = laws::unmet(&mut self.server, &self.nodes, &self.proxy);
            unmet.extend(control::wishes(&mut self.server, Now::new(self.now, self.ahead).clock));
            if unmet.is_empty() {
                return Ok(());
            }
            if self.now > rest {
                return Err(format!("comes_to_rest: {}", unmet.join("; ")));
            }
        }
    }

    fn lose_control_plane(&mut self) -> Result<(), String> {
        let lasting: Vec<_> = self.server.list(laws::PODS).into_iter().filter(|pod| lasts(pod)).collect();
        let until = self.now + AWAY;
        self.steps_max += STEPS_MAX;
        self.laws.troubled = until + seconds(60);
        self.control = Err(until);
        self.placer = Err(until);
        self.server.hang_up();
        for node in &mut self.nodes {
            node.cut_until = until;
            let clock = Now::new(self.now, node.ahead).clock;
            let alive = node.runtime.alive().map(|(uid, c)| (uid.to_owned(), c.id.clone()));
            let alive: Vec<_> =
                alive.filter(|(uid, _)| lasting.iter().any(|pod| object::uid(pod) == uid)).collect();
            for (uid, id) in alive {
                node.runtime.exit(&uid, &id, 1, clock);
            }
            node.look(self.now);
        }
        self.server.say(|| format!("the control plane is away until {until:?}"));
        while self.now < until {
            self.step()?;
        }
        for pod in &lasting {
            let runs =
                self.nodes.iter().any(|node| node.runtime.alive().any(|(uid, _)| uid == object::uid(pod)));
            if !runs {
                return Err(format!("away: {} does not run after an hour alone", object::name(pod)));
            }
        }
        self.come_to_rest()?;
        let after = self.server.list(laws::PODS);
        for pod in &lasting {
            let stays = after.iter().any(|other| object::uid(other) == object::uid(pod) && lasts(other));
            if !stays {
                return Err(format!("away: {} was given up", object::name(pod)));
            }
        }
        Ok(())
    }

    /// No more faults: what is away returns.
    fn calm_down(&mut self) {
        self.server.trouble = 0;
        self.people_at = Duration::MAX;
        self.fault_at = Duration::MAX;
        for node in &mut self.nodes {
            node.cut_until = node.cut_until.min(self.now);
            node.off_until = node.off_until.map(|until| until.min(self.now));
        }
        self.laws.troubled = self.laws.troubled.max(self.now);
        self.server.say(|| "no more faults".to_owned());
    }

    /// When each has something to do: people, faults, the controllers, the scheduler, late writes, the proxy,
    /// the nodes.
    fn wakes(&self) -> Vec<Duration> {
        let control = match &self.control {
            Ok(control) => control.wake_at(&self.server, self.now),
            Err(until) => Some(*until),
        };
        let placer = match &self.placer {
            Ok(placer) => placer.wake_at(&self.server, self.now),
            Err(until) => Some(*until),
        };
        let nodes = self.nodes.iter().map(|node| node.wake_at(&self.server, self.now));
        let late = self.server.late_at();
        let proxy = self.proxy.wake_at(&self.server, self.now);
        let all = [Some(self.people_at), Some(self.fault_at), control, placer, late, proxy];
        let all = all.into_iter().chain(nodes);
        all.map(|at| at.unwrap_or(Duration::MAX)).collect()
    }

    /// One thing happens.
    fn step(&mut self) -> Result<(), String> {
        self.steps += 1;
        if self.steps > self.steps_max {
            return Err("comes_to_rest: there is no end".to_owned());
        }
        let wakes = self.wakes();
        let ready: Vec<usize> = (0..wakes.len()).filter(|who| wakes[*who] <= self.now).collect();
        if ready.is_empty() {
            self.now = wakes.into_iter().min().unwrap_or(Duration::MAX);
            self.server.now = self.now;
            return self.laws.wait(&self.server, self.now);
        }
        let who = ready[self.rng.usize(..ready.len())];
        self.go(who);
        self.now += Duration::from_micros(self.rng.u64(..4000));
        self.server.now = self.now;
        self.laws.check(&mut self.server, &mut self.nodes, self.now)
    }

    fn go(&mut self, who: usize) {
        let now = Now::new(self.now, 0);
        let ours = Now::new(self.now, self.ahead);
        match who {
            0 => {
                let wait = if self.laws.calm { 60..120 } else { 2..40 };
                self.people_at = self.now + seconds(self.rng.u64(wait));
                self.laws.troubled = self.laws.troubled.max(self.now);
                people::act(&mut self.server, now.clock, self.laws.calm, &mut self.rng);
            }
            1 => {
                self.fault_at = self.now + Duration::from_millis(self.rng.u64(100..self.pace));
                self.laws.troubled = self.now + seconds(60);
                let what = self.fault();
                self.server.say(|| what);
            }
            2 => match &mut self.control {
                Ok(control) => control.step(&mut self.server, ours, &mut self.rng),
                Err(_) => {
                    self.control = Ok(Control::new(&mut self.server));
                    self.server.say(|| "the controllers are back".to_owned());
                }
            },
            3 => match &mut self.placer {
                Ok(placer) => placer.step(&mut self.server, ours, &mut self.rng),
                Err(_) => {
                    self.placer = Ok(Placer::new(&mut self.server, ours));
                    self.server.say(|| "the scheduler is back".to_owned());
                }
            },
            4 => self.server.make_late(now),
            5 => self.proxy.step(&mut self.server, self.now, &mut self.rng),
            at => {
                let node = &mut self.nodes[at - 6];
                node.step(&mut self.server, Now::new(self.now, node.ahead), &mut self.rng);
            }
        }
    }

    /// Something goes wrong.
    fn fault(&mut self) -> String {
        let rng = &mut self.rng;
        let most = if rng.bool() { 3_000 } else { 60_000 };
        let until = self.now + Duration::from_millis(rng.u64(..most));
        let at = rng.usize(..self.nodes.len());
        let node = &mut self.nodes[at];
        let now = Now::new(self.now, node.ahead);
        match rng.u8(..13) {
            0 => {
                self.control = Err(until);
                self.server.hang_up();
                format!("the controllers crash until {until:?}")
            }
            1 => {
                self.placer = Err(until);
                format!("the scheduler crashes until {until:?}")
            }
            2 | 12 if node.off_until.is_none() => {
                node.crash(now, rng);
                let forgets = rng.u8(..3) == 0;
                if forgets {
                    node.forget();
                }
                node.start(now);
                format!("the agent of {} crashes and starts, without its disk: {forgets}", node.name)
            }
            3 => {
                node.cut_until = until;
                format!("{} is cut off until {until:?}", node.name)
            }
            4 => {
                let lost = rng.u8(..4) == 0;
                let until = until + seconds(rng.u64(..60));
                node.fail(until, lost, now.clock);
                format!("{} dies until {until:?}, with its disk: {lost}", node.name)
            }
            5..=6 => {
                let alive: Vec<_> =
                    node.runtime.alive().map(|(uid, c)| (uid.to_owned(), c.id.clone())).collect();
                let Some((uid, id)) = rng.choice(&alive) else { return "nothing".to_owned() };
                let code = i32::from(rng.bool());
                node.runtime.exit(uid, id, code, now.clock);
                node.look(self.now);
                format!("{id} on {} exits {code}", node.name)
            }
            7 => {
                let jump = rng.i64(-600..600);
                let (who, ahead) = match rng.bool() {
                    true => (node.name.as_str(), &mut node.ahead),
                    false => ("the controllers", &mut self.ahead),
                };
                *ahead = jump;
                format!("the clock of {who} is {jump}s ahead")
            }
            8..=9 => self.watch_breaks(at),
            _ => {
                let hangs = match (rng.u8(..4), &mut self.control, &mut self.placer, &mut node.agent) {
                    (0, Ok(control), ..) => &mut control.cache,
                    (1, _, Ok(placer), _) => &mut placer.cache,
                    (2, .., Some(agent)) => &mut agent.cache,
                    (3, ..) => &mut self.proxy.cache,
                    _ => return "nothing".to_owned(),
                };
                if hangs.len() == 0 {
                    return "nothing".to_owned();
                }
                let at = rng.usize(..hangs.len());
                hangs.hang(at, until);
                format!("a watch of {} hangs until {until:?}", hangs.of(at))
            }
        }
    }

    fn watch_breaks(&mut self, at: usize) -> String {
        let rng = &mut self.rng;
        let (node, ours) = (&mut self.nodes[at], Now::new(self.now, self.ahead));
        match (rng.u8(..4), &mut self.control, &mut self.placer) {
            (0, Ok(control), _) => {
                let at = rng.usize(..control.cache.len());
                control.relist(at, &self.server);
                format!("the controllers list {} anew", control.cache.of(at))
            }
            (1, _, Ok(placer)) => {
                let at = rng.usize(..placer.cache.len());
                placer.relist(at, &self.server, ours);
                format!("the scheduler lists {} anew", placer.cache.of(at))
            }
            (2, ..) => {
                let at = rng.usize(..self.proxy.cache.len());
                self.proxy.relist(at, &self.server);
                format!("the proxy lists {} anew", self.proxy.cache.of(at))
            }
            _ => {
                node.relist(node::PODS_WATCH, &self.server, Now::new(self.now, node.ahead));
                format!("{} lists its pods anew", node.name)
            }
        }
    }
}
