//! A person at a terminal: shells, keys, windows that change their size.

use anyhow::{Result, ensure};
use lab::{Terminal, pypi, wait};

use crate::Lab;

/// A command that prints `word` once the window has a size; the word does not stand in what is typed.
fn once_sized(rows: u16, columns: u16, word: &str) -> String {
    let (head, tail) = word.split_at(1);
    format!("until [ \"$(stty size)\" = \"{rows} {columns}\" ]; do sleep 0.1; done; echo {head}''{tail}\r")
}

/// kubectl on a terminal of 24 lines of 80 characters.
fn kubectl(lab: &Lab, line: &str) -> Result<Terminal> {
    let mut command = lab.0.client(pypi::kubectl()?);
    command.args(line.split(' '));
    Terminal::run(&command, 24, 80)
}

fn cleat(lab: &Lab, line: &str) -> Result<Terminal> {
    let words: Vec<&str> = line.split(' ').collect();
    Terminal::run(&lab.0.node(0).cleat_command(&words), 24, 80)
}

#[test]
fn a_person_at_a_terminal() -> Result<()> {
    let lab = Lab::new()?;
    shell(kubectl(&lab, "exec -it box -c web -- sh")?)?;
    shell(cleat(&lab, "ctl exec -it box -c web -- sh")?)?;
    attached(&lab)?;
    a_pod_for_a_while(&lab)?;
    looking_into(&lab)
}

/// A shell: its window, an interrupted command, its exit code.
fn shell(mut terminal: Terminal) -> Result<()> {
    terminal.sees("# ")?;
    terminal.press(&once_sized(24, 80, "small"))?;
    terminal.sees("small")?;
    terminal.resize(40, 120)?;
    terminal.press(&once_sized(40, 120, "large"))?;
    terminal.sees("large")?;
    terminal.press("echo be''gun; sleep 1000\r")?;
    terminal.sees("begun")?;
    terminal.press("\u{3}")?;
    terminal.press("echo co''de $?\r")?;
    terminal.sees("code 130")?;
    terminal.press("tty; exit 7\r")?;
    terminal.sees("/dev/pts/0")?;
    let status = terminal.ends()?;
    ensure!(status.code() == Some(7), "{status}");
    Ok(())
}

/// What a container reads and prints, by two who come and go: it goes on without them.
fn attached(lab: &Lab) -> Result<()> {
    for (word, attach) in [("one", kubectl as fn(&Lab, &str) -> Result<Terminal>), ("two", cleat)] {
        let line = if word == "one" { "attach -it box -c main" } else { "ctl attach -it box -c main" };
        let mut terminal = attach(lab, line)?;
        terminal.press(&format!("{word}\r"))?;
        terminal.sees(&format!("heard {word}"))?;
        drop(terminal);
    }
    let log = lab.run("logs box -c main")?;
    ensure!(log.contains("heard one") && log.contains("heard two"), "{log}");
    let pod = lab.0.get(&["pod", "box"])?;
    ensure!(lab::node::container(&pod, "main")["restartCount"] == 0, "{pod}");
    Ok(())
}

/// `kubectl run -it --rm`: a pod that is there as long as its shell.
fn a_pod_for_a_while(lab: &Lab) -> Result<()> {
    let mut terminal = kubectl(lab, "run -it --rm --restart=Never --image=busybox:1.35 while -- sh")?;
    terminal.sees("# ")?;
    terminal.press(&once_sized(24, 80, "small"))?;
    terminal.sees("small")?;
    terminal.resize(50, 100)?;
    terminal.press(&once_sized(50, 100, "large"))?;
    terminal.sees("large")?;
    terminal.press("exit\r")?;
    terminal.sees("pod \"while\" deleted")?;
    terminal.succeeds()?;
    let gone = lab.refused("get pod while")?;
    ensure!(gone.contains("not found"), "{gone}");
    Ok(())
}

/// `kubectl debug -it`: a shell beside a container, among its processes.
fn looking_into(lab: &Lab) -> Result<()> {
    let mut terminal = kubectl(lab, "debug -it box --image=busybox:1.35 -c look --target=web -- sh")?;
    terminal.sees("# ")?;
    terminal.press("ps -o args | grep -q '[h]ttpd' && echo am''ong $(hostname)\r")?;
    terminal.sees("among box")?;
    terminal.press("exit 3\r")?;
    terminal.ends()?;
    wait::until("the debugger's end to be told", 60, || {
        let pod = lab.0.get(&["pod", "box"])?;
        let state = &pod["status"]["ephemeralContainerStatuses"][0]["state"];
        Ok(if state["terminated"]["exitCode"] == 3 { Ok(()) } else { Err(state.to_string()) })
    })
}
