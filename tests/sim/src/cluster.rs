//! The cluster: whoever has something to do does it in an order that the dice give, while people and faults come and go.

use std::time::Duration;

use fastrand::Rng;

use crate::control::{self, Control};
use crate::laws::{self, Laws};
use crate::node::Node;
use crate::people;
use crate::place::Placer;
use crate::server::Server;
use crate::time::{Now, seconds};

/// How many things may happen in a run; one that needs more does not come to rest.
const STEPS_MAX: usize = 60_000;
/// What all nodes together have for pods, in thousandths of a core; a pod asks for a hundred.
const ROOM: i64 = 2000;
/// How long after the last fault everything must be as it should, and how often that is looked at. A container that ended
/// by a clock that has gone back since is started again when that time is over once more.
const REST: Duration = seconds(600);
const LOOK: Duration = seconds(60);

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
    nodes: Vec<Node>,
    /// How far the clock of the controllers is ahead, in seconds.
    ahead: i64,
    laws: Laws,
    steps: usize,
    log: Option<Vec<String>>,
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
    let mut cluster = Cluster::new(seed, log);
    let law = cluster.live();
    let (steps, log) = (cluster.steps, cluster.log.unwrap_or_default());
    match law {
        Ok(()) => Ok((steps, log)),
        Err(law) => Err(Broken { law, steps, log }),
    }
}

impl Cluster {
    fn new(seed: u64, log: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let now = Now::new(Duration::ZERO, 0);
        let mut server = Server::default();
        people::begin(&mut server, now.clock, &mut rng);
        let count = rng.i64(1..4);
        // Together they have room for what people want, and little more.
        let node = |n| Node::new(format!("n{n}"), ROOM / count);
        let mut nodes: Vec<Node> = (0..count).map(node).collect();
        nodes.iter_mut().for_each(|node| node.start(now));
        let calm = rng.u8(..4) == 0;
        server.trouble = if calm { 0 } else { *rng.choice(&[0, 3, 10, 40]).expect("there are some") };
        Self {
            control: Ok(Control::new(&server)),
            placer: Ok(Placer::new(&server, now)),
            laws: Laws::new(calm),
            people_at: seconds(rng.u64(20..60)),
            fault_at: if calm { Duration::MAX } else { seconds(rng.u64(1..40)) },
            pace: *rng.choice(&[2_000, 10_000, 40_000]).expect("there are some"),
            end: seconds(rng.u64(60..240)),
            log: log.then(Vec::new),
            rng,
            now: Duration::ZERO,
            server,
            nodes,
            ahead: 0,
            steps: 0,
        }
    }

    fn live(&mut self) -> Result<(), String> {
        while self.now < self.end {
            self.step()?;
        }
        self.calm_down();
        let rest = self.now + REST;
        loop {
            let look = self.now + LOOK;
            while self.now < look {
                self.step()?;
            }
            let mut unmet = laws::unmet(&self.server, &self.nodes);
            unmet.extend(control::wishes(&self.server, Now::new(self.now, self.ahead).clock));
            if unmet.is_empty() {
                return Ok(());
            }
            if self.now > rest {
                return Err(format!("comes_to_rest: {}", unmet.join("; ")));
            }
        }
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
        self.say(|| "no more faults".to_owned());
    }

    fn say(&mut self, line: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(log) = &mut self.log {
            let line = line();
            if !line.is_empty() {
                log.push(format!("{:>9.3} {line}", now.as_secs_f64()));
            }
        }
    }

    /// When each has something to do: people, faults, the controllers, the scheduler, the nodes.
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
        let all = [Some(self.people_at), Some(self.fault_at), control, placer].into_iter().chain(nodes);
        all.map(|at| at.unwrap_or(Duration::MAX)).collect()
    }

    /// One thing happens.
    fn step(&mut self) -> Result<(), String> {
        self.steps += 1;
        if self.steps > STEPS_MAX {
            return Err("comes_to_rest: there is no end".to_owned());
        }
        let wakes = self.wakes();
        let ready: Vec<usize> = (0..wakes.len()).filter(|who| wakes[*who] <= self.now).collect();
        if ready.is_empty() {
            self.now = wakes.into_iter().min().unwrap_or(Duration::MAX);
            self.laws.slices(&self.server, self.now)?;
            return Ok(());
        }
        let who = ready[self.rng.usize(..ready.len())];
        let line = self.go(who);
        if let Some(line) = line {
            self.say(|| line);
        }
        self.now += Duration::from_micros(self.rng.u64(..4000));
        self.laws.check(&mut self.server, &self.nodes, self.now)
    }

    fn go(&mut self, who: usize) -> Option<String> {
        let now = Now::new(self.now, 0);
        let ours = Now::new(self.now, self.ahead);
        match who {
            0 => {
                let wait = if self.laws.calm { 60..120 } else { 2..40 };
                self.people_at = self.now + seconds(self.rng.u64(wait));
                if !self.laws.calm {
                    self.laws.troubled = self.now;
                }
                Some(people::act(&mut self.server, now.clock, self.laws.calm, &mut self.rng))
            }
            1 => {
                self.fault_at = self.now + Duration::from_millis(self.rng.u64(100..self.pace));
                self.laws.troubled = self.now + seconds(60);
                Some(self.fault())
            }
            2 => match &mut self.control {
                Ok(control) => control.step(&mut self.server, ours, &mut self.rng),
                Err(_) => {
                    self.control = Ok(Control::new(&self.server));
                    Some("the controllers are back".to_owned())
                }
            },
            3 => match &mut self.placer {
                Ok(placer) => placer.step(&mut self.server, ours, &mut self.rng),
                Err(_) => {
                    self.placer = Ok(Placer::new(&self.server, ours));
                    Some("the scheduler is back".to_owned())
                }
            },
            at => {
                let node = &mut self.nodes[at - 4];
                node.step(&mut self.server, Now::new(self.now, node.ahead), &mut self.rng)
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
        match rng.u8(..12) {
            0 => {
                self.control = Err(until);
                format!("the controllers crash until {until:?}")
            }
            1 => {
                self.placer = Err(until);
                format!("the scheduler crashes until {until:?}")
            }
            2 if node.off_until.is_none() => {
                node.crash(now, rng);
                node.start(now);
                format!("the agent of {} crashes and starts", node.name)
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
                let Some((uid, id)) = rng.choice(&alive) else { return String::new() };
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
                let hangs = match (rng.u8(..3), &mut self.control, &mut self.placer, &mut node.agent) {
                    (0, Ok(control), ..) => &mut control.cache,
                    (1, _, Ok(placer), _) => &mut placer.cache,
                    (2, .., Some(agent)) => &mut agent.cache,
                    _ => return String::new(),
                };
                let reads = hangs.reads();
                let Some(of) = rng.choice(&reads) else { return String::new() };
                hangs.hangs.insert(*of, until);
                format!("a watch of {} hangs until {until:?}", of.1)
            }
        }
    }

    fn watch_breaks(&mut self, at: usize) -> String {
        let rng = &mut self.rng;
        let (node, ours) = (&mut self.nodes[at], Now::new(self.now, self.ahead));
        match (rng.u8(..3), &mut self.control, &mut self.placer) {
            (0, Ok(control), _) => {
                let Some(of) = rng.choice(control.cache.reads()) else { return String::new() };
                control.relist(of, &self.server);
                format!("the controllers list {} anew", of.1)
            }
            (1, _, Ok(placer)) => {
                let Some(of) = rng.choice(placer.cache.reads()) else { return String::new() };
                placer.relist(of, &self.server, ours);
                format!("the scheduler lists {} anew", of.1)
            }
            _ => {
                node.relist(("", "pods"), &self.server, Now::new(self.now, node.ahead));
                format!("{} lists its pods anew", node.name)
            }
        }
    }
}
