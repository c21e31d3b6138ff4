//! End-to-end tests of one node: the built programs in a throw-away machine, real images from a registry, and a look
//! at what is left behind. They need root, and the Debian packages that `cargo xtask test` installs.
#![forbid(unsafe_code)]

#[cfg(test)]
mod bad_images;
#[cfg(test)]
mod bad_manifests;
#[cfg(test)]
mod cgroup_v2;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod interop;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod pods;
#[cfg(test)]
mod restart;
#[cfg(test)]
mod sandbox;

/// A manifest of one pod with containers of busybox, each given as `name` and the lines of its spec.
#[cfg(test)]
fn pod(name: &str, spec: &str, containers: &[(&str, &str)]) -> String {
    let mut text = format!("apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\nspec:\n");
    let indented = |text: &str, by: usize| -> String {
        text.lines().map(|line| format!("{:by$}{line}\n", "")).collect()
    };
    text += &indented(spec, 2);
    text += "  containers:\n";
    for (name, lines) in containers {
        text += &format!("  - name: {name}\n");
        if !lines.contains("image:") {
            text += "    image: busybox:1.35\n";
        }
        text += &indented(lines, 4);
    }
    text
}
