//! The images of the demo and of most tests, assembled from Debian packages: busybox, nginx and redis. All stand on one
//! base layer, a static busybox with its applets.

use std::process::Command;

use anyhow::Result;
use serde_json::json;

use crate::debian::{Debian, output};
use crate::image::{Image, Tree};

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const PASSWD: &str = "\
root:x:0:0:root:/root:/bin/sh
www-data:x:33:33:www-data:/var/www:/bin/false
redis:x:101:101:redis:/data:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
";
const GROUP: &str = "root:x:0:\ntty:x:5:\nwww-data:x:33:\nredis:x:101:\nnogroup:x:65534:\n";
const NGINX_CONF: &str = "\
user www-data;
worker_processes 1;
pid /run/nginx.pid;
error_log /dev/stderr notice;
events { worker_connections 64; }
http {
    access_log /var/log/nginx/access.log;
    types { text/html html; text/plain txt; }
    server { listen 80; listen [::]:80; root /usr/share/nginx/html; }
}
";

/// An image and the name under which the demo manifests know it.
pub struct Named {
    /// As in `image:` of a manifest, in full.
    pub reference: &'static str,
    /// The image.
    pub image: Image,
}

/// busybox, nginx and redis.
pub fn images() -> Result<Vec<Named>> {
    let debian = Debian::open()?;
    let base = base(&debian)?;
    Ok(vec![
        Named {
            reference: "docker.io/library/busybox:1.35",
            image: Image::new(&[&base], &run(&["sh"], &json!({})))?,
        },
        Named { reference: "docker.io/library/nginx:1.22", image: nginx(&debian, &base)? },
        Named { reference: "docker.io/library/redis:7.0", image: redis(&debian, &base)? },
    ])
}

/// A root file system with busybox, enough for most tests.
pub fn base(debian: &Debian) -> Result<Tree> {
    let mut tree = Tree::default();
    for folder in
        ["dev", "etc", "home", "mnt", "proc", "run", "sys", "usr", "var", "usr/bin", "usr/lib", "usr/sbin"]
    {
        tree.folder(folder, 0o755);
    }
    for folder in ["usr/lib64", "usr/lib/x86_64-linux-gnu", "usr/share", "var/lib", "var/log"] {
        tree.folder(folder, 0o755);
    }
    tree.folder("root", 0o700).folder("tmp", 0o1777).link("var/run", "/run");
    for merged in ["bin", "sbin", "lib", "lib64"] {
        tree.link(merged, &format!("usr/{merged}"));
    }
    tree.link("usr/lib64/ld-linux-x86-64.so.2", "../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2");
    tree.file("etc/passwd", 0o644, PASSWD).file("etc/group", 0o644, GROUP);
    let busybox = debian.package("busybox-static")?.join("bin/busybox");
    for applet in output(Command::new(&busybox).arg("--list"))?.lines().filter(|a| *a != "busybox") {
        tree.link(&format!("usr/bin/{applet}"), "busybox");
    }
    tree.file("usr/bin/busybox", 0o755, std::fs::read(busybox)?);
    Ok(tree)
}

/// A pause image, for runtimes that need one: a static program that waits.
pub fn pause(debian: &Debian) -> Result<Image> {
    let catatonit = std::fs::read(debian.package("catatonit")?.join("usr/bin/catatonit"))?;
    let mut tree = Tree::default();
    tree.file("pause", 0o755, catatonit);
    Image::new(&[&tree], &json!({ "Entrypoint": ["/pause", "-P"] }))
}

fn nginx(debian: &Debian, base: &Tree) -> Result<Image> {
    let mut tree = Tree::default();
    debian.program(&mut tree, "nginx", "usr/sbin/nginx")?;
    for folder in ["etc/nginx", "usr/share/nginx", "usr/share/nginx/html", "var/lib/nginx", "var/log/nginx"] {
        tree.folder(folder, 0o755);
    }
    tree.file("etc/nginx/nginx.conf", 0o644, NGINX_CONF);
    tree.file("usr/share/nginx/html/index.html", 0o644, "<h1>nginx holds</h1>\n");
    let more = json!({ "ExposedPorts": { "80/tcp": {} }, "StopSignal": "SIGQUIT" });
    Image::new(&[base, &tree], &run(&["nginx", "-g", "daemon off;"], &more))
}

fn redis(debian: &Debian, base: &Tree) -> Result<Image> {
    let mut tree = Tree::default();
    debian.program(&mut tree, "redis-tools", "usr/bin/redis-check-rdb")?;
    debian.program(&mut tree, "redis-tools", "usr/bin/redis-cli")?;
    tree.link("usr/bin/redis-server", "redis-check-rdb").folder("data", 0o777);
    let more = json!({ "ExposedPorts": { "6379/tcp": {} }, "WorkingDir": "/data" });
    Image::new(&[base, &tree], &run(&["redis-server", "--protected-mode", "no"], &more))
}

fn run(command: &[&str], more: &serde_json::Value) -> serde_json::Value {
    let mut config = json!({ "Cmd": command, "Env": [PATH] });
    if let (Some(config), Some(more)) = (config.as_object_mut(), more.as_object()) {
        config.extend(more.clone());
    }
    config
}
