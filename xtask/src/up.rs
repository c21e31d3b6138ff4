//! `cargo xtask up`: from a fresh clone to a cluster on this machine that serves a web page.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::bench::build;
use crate::cargo;

/// How long the page may take until somebody has read it.
const SERVED_SECONDS_MAX: u64 = 120;
/// Who tries something out may have a disk that is nearly full; by the kubelet's defaults the node would take no pods.
const KUBELET: &str = "\
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
evictionHard: { nodefs.available: 500Mi, nodefs.inodesFree: 1% }
";
const EXAMPLE: &str = "examples/web.yaml";

/// Builds the programs, makes the demo's images available, runs `cleat up` and the example in it. `arguments` go to
/// `cleat up`; a `--data-dir` or `--run-dir` among them is used for the other commands too.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    if !cargo::is_root() {
        bail!("`cleat up` makes namespaces, mounts and cgroups: run `cargo xtask up` as root");
    }
    build("dev")?;
    let programs = cargo::programs("debug")?;
    let cleat = Cleat { program: programs.join("cleat"), directories: directories(arguments) };
    std::fs::create_dir_all(programs.with_file_name("demo"))?;
    match archives(&programs.with_file_name("demo").join("images"), &programs) {
        Ok(archives) => cargo::run(cleat.command(&["image", "load"]).args(archives))?,
        Err(error) => {
            eprintln!(
                "No images from Debian packages ({error:#}).\nThey will be pulled from docker.io instead."
            );
        }
    }
    let mut up = Command::new(&cleat.program);
    up.arg("up").args(arguments);
    if !arguments.iter().any(|word| *word == "--config" || word.starts_with("--config=")) {
        let file = programs.with_file_name("demo").join("kubelet.yaml");
        std::fs::write(&file, KUBELET).with_context(|| file.display().to_string())?;
        up.arg("--config").arg(file);
    }
    let mut up = up.spawn().context("starting cleat")?;
    match demonstrate(&cleat, &mut up) {
        Ok(()) => {}
        Err(error) => eprintln!("The example does not run: {error:#}"),
    }
    // Ctrl-C reaches `cleat up` too, as it is of our process group.
    let status = up.wait().context("waiting for cleat")?;
    if status.success() { Ok(()) } else { bail!("cleat up: {status}") }
}

/// The program, for the cluster in certain directories.
struct Cleat {
    program: PathBuf,
    directories: Vec<String>,
}

impl Cleat {
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(words).args(&self.directories);
        command
    }

    /// What a command prints; the error is what it complains of.
    fn output(&self, words: &[&str]) -> Result<String> {
        let done = self.command(words).output()?;
        if !done.status.success() {
            bail!("{}", String::from_utf8_lossy(&done.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }
}

/// Applies the example, waits until its visitor has been served, and says what to look at next.
fn demonstrate(cleat: &Cleat, up: &mut Child) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(SERVED_SECONDS_MAX);
    let example = crate::root().join(EXAMPLE);
    let example = example.to_str().context("the repository's path is no text")?;
    let mut seen;
    loop {
        if let Some(status) = up.try_wait()? {
            bail!("`cleat up` ended with {status}");
        }
        // The API server may not be there yet.
        seen = cleat.output(&["ctl", "apply", "-f", example]);
        if seen.is_ok() || Instant::now() > end {
            break;
        }
        thread::sleep(Duration::from_millis(100));
    }
    print!("{}", seen?);
    loop {
        let page = cleat.output(&["ctl", "logs", "visitor"]).unwrap_or_default();
        if let Some(line) = page.lines().rev().find(|line| line.contains("<h1>")) {
            println!("\nA pod asked for http://web, by its name, and read: {line}");
            break;
        }
        if let Some(status) = up.try_wait()? {
            bail!("`cleat up` ended with {status}");
        }
        if Instant::now() > end {
            let why = cleat.output(&["why", "deployment/web"]).unwrap_or_default();
            bail!("nobody was served within {SERVED_SECONDS_MAX} s\n{why}");
        }
        thread::sleep(Duration::from_millis(100));
    }
    next(cleat);
    Ok(())
}

fn next(cleat: &Cleat) {
    let own = cleat.program.display();
    let flags: String = cleat.directories.iter().map(|word| format!(" {word}")).collect();
    if let Ok(address) = cleat.output(&["ctl", "get", "service", "web", "--output", "json"]) {
        let service: serde_json::Value = serde_json::from_str(&address).unwrap_or_default();
        println!(
            "From this machine: curl http://{}/\n",
            service["spec"]["clusterIP"].as_str().unwrap_or("?")
        );
    }
    println!("Next, in another terminal (kubectl and helm do as well):");
    let next = [
        ("ctl get pods,services -o wide", "what runs, and where"),
        ("ctl logs visitor -f", "who answers whom"),
        ("ctl scale deployment/web --replicas 5", "more of it"),
        ("why deployment/web", "what it waits for, if it does"),
        ("token create", "the command by which another machine joins"),
        ("down", "end all pods and stop; `reset` removes everything"),
    ];
    let next = next.map(|(command, what)| (format!("{own} {command}{flags}"), what));
    let width = next.iter().map(|(command, _)| command.len()).max().unwrap_or(0);
    for (command, what) in next {
        println!("  {command:<width$}  {what}");
    }
}

/// The directories among the arguments, for the commands that find the cluster by them.
fn directories(arguments: &[&str]) -> Vec<String> {
    let named = |word: &str| word == "--data-dir" || word == "--run-dir";
    let mut found = Vec::new();
    for (place, word) in arguments.iter().enumerate() {
        if named(word) {
            found.extend(arguments[place..].iter().take(2).map(|&word| word.to_owned()));
        } else if word.split_once('=').is_some_and(|(name, _)| named(name)) {
            found.push((*word).to_owned());
        }
    }
    found
}

/// The demo's images as archives, assembled by the lab from Debian packages.
fn archives(folder: &Path, programs: &Path) -> Result<Vec<PathBuf>> {
    if Command::new("apt-get").arg("--version").output().is_err() {
        bail!("there is no apt-get");
    }
    eprintln!("Assembling the images of nginx, redis and busybox from Debian packages");
    let lab = || {
        let mut lab = Command::new(programs.join("lab"));
        lab.arg("images").arg(folder);
        cargo::output(&mut lab)
    };
    let text = match lab() {
        Ok(text) => text,
        // A fresh machine has no package lists yet.
        Err(_) => {
            cargo::run(Command::new("apt-get").args(["-qq", "update"]))?;
            lab()?
        }
    };
    Ok(text.lines().map(PathBuf::from).collect())
}
