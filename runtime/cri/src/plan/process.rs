//! The container's process: arguments, environment, directory, rights. And further processes beside it.

use oci_spec::runtime::{Process, Spec, User as SpecUser};
use proto_cri::{ContainerConfig, LinuxContainerSecurityContext};

use super::{Container, Host, Image, PlanError, Pod, resources, security, user::User};

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(super) fn process(
    container: &Container<'_>,
    pod: &Pod<'_>,
    context: &LinuxContainerSecurityContext,
    host: &Host,
) -> Result<Process, PlanError> {
    let config = container.config;
    let score = config.linux.as_ref().and_then(|linux| linux.resources.as_ref());
    let score = score.map_or(0, |resources| resources.oom_score_adj);
    let cwd = [config.working_dir.as_str(), container.image.working_dir.as_str(), "/"];
    let cwd = cwd.into_iter().find(|path| !path.is_empty()).unwrap_or("/");
    if !cwd.starts_with('/') {
        return Err(PlanError::invalid("config.working_dir", format!("{cwd:?} is not absolute")));
    }
    let mut process = Process::default();
    process
        .set_terminal(Some(config.tty))
        .set_user(spec_user(container.user))
        .set_args(Some(args(config, container.image)?))
        .set_env(Some(env(config, container.image, container.user, &pod.config.hostname)))
        .set_cwd(cwd.into())
        .set_capabilities(Some(security::capabilities(context, host)?))
        .set_rlimits(None)
        .set_no_new_privileges(Some(context.no_new_privs))
        .set_apparmor_profile(security::apparmor(context, host)?)
        .set_oom_score_adj(Some(resources::oom_score_adj(score, host)));
    Ok(process)
}

fn spec_user(user: &User) -> SpecUser {
    let mut spec = SpecUser::default();
    spec.set_uid(user.uid).set_gid(user.gid).set_additional_gids(Some(user.groups.clone()));
    spec
}

/// A command replaces the image's entry point and its arguments; arguments alone replace its arguments.
fn args(config: &ContainerConfig, image: &Image) -> Result<Vec<String>, PlanError> {
    let (head, tail) = match (config.command.is_empty(), config.args.is_empty()) {
        (false, _) => (&config.command, &config.args),
        (true, false) => (&image.entrypoint, &config.args),
        (true, true) => (&image.entrypoint, &image.cmd),
    };
    let args: Vec<String> = head.iter().chain(tail).cloned().collect();
    if args.is_empty() {
        return Err(PlanError::invalid("config.command", "is empty, and the image names no command either"));
    }
    Ok(args)
}

/// The image's variables, replaced by the configuration's; each name once, in order of first appearance.
fn env(config: &ContainerConfig, image: &Image, user: &User, hostname: &str) -> Vec<String> {
    let mut env: Vec<String> = Vec::new();
    let mut set = |line: String, replace: bool| {
        let name = line.split('=').next().unwrap_or_default();
        match env.iter_mut().find(|old| old.split('=').next() == Some(name)) {
            Some(old) if replace => *old = line,
            Some(_) => {}
            None => env.push(line),
        }
    };
    image.env.iter().for_each(|line| set(line.clone(), true));
    for one in &config.envs {
        set(format!("{}={}", one.key, String::from_utf8_lossy(&one.value)), true);
    }
    set(PATH.to_owned(), false);
    if config.tty {
        set("TERM=xterm".to_owned(), false);
    }
    if !hostname.is_empty() {
        set(format!("HOSTNAME={hostname}"), false);
    }
    set(format!("HOME={}", user.home), false);
    env
}

/// The process of an exec session: the container's own with another command, and nothing it could gain by it.
pub(crate) fn exec(spec: &Spec, command: &[String], terminal: bool) -> Process {
    let mut process = spec.process().clone().unwrap_or_default();
    process.set_args(Some(command.to_vec())).set_terminal(Some(terminal));
    if terminal && let Some(mut env) = process.env().clone() {
        if !env.iter().any(|line| line.starts_with("TERM=")) {
            env.push("TERM=xterm".to_owned());
        }
        process.set_env(Some(env));
    }
    process
}
