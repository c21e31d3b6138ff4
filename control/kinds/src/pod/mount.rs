//! Rules for how containers use a pod's volumes.

use proto_kube::field::Error;
use serde_json::Value;

use super::template::Context;
use crate::check::Field;
use crate::check::net;

/// Rule: a container's `volumeMounts`.
pub(crate) fn mounts(container: &Field<'_>, context: &Context<'_>) {
    let mounts = container.at("volumeMounts");
    let devices = container.at("volumeDevices");
    let mut paths = Vec::new();
    for mount in mounts.items() {
        let (name, path) = (mount.at("name"), mount.at("mountPath"));
        name.needs("");
        let volume = context.volume(name.text());
        if volume.is_none() {
            name.fault(Error::not_found(&name.path, name.text()));
        }
        path.needs("");
        if paths.contains(&path.text()) {
            path.invalid("must be unique");
        }
        paths.push(path.text());
        if devices.items().any(|d| d.at("name").text() == name.text()) {
            name.invalid("must not already exist in volumeDevices");
        }
        if devices.items().any(|d| d.at("devicePath").text() == path.text()) {
            path.invalid("must not already exist as a path in volumeDevices");
        }
        sub_path(&mount, &mounts, volume);
        propagation(&mount, &mounts, container);
    }
}

fn sub_path(mount: &Field<'_>, mounts: &Field<'_>, volume: Option<&Value>) {
    let of_image = volume.is_some_and(|v| v.get("image").is_some_and(|i| !i.is_null()));
    for key in ["subPath", "subPathExpr"] {
        let path = mount.at(key);
        if path.is_empty() {
            continue;
        }
        if of_image && key == "subPathExpr" {
            path.invalid("not allowed in image volume sources");
        }
        if key == "subPathExpr" && !mount.at("subPath").is_empty() {
            path.invalid("subPathExpr and subPath are mutually exclusive");
        }
        net::descending(&path.shown_at(mounts.path.child(key)));
    }
}

fn propagation(mount: &Field<'_>, mounts: &Field<'_>, container: &Field<'_>) {
    let propagation = mount.at("mountPropagation").shown_at(mounts.path.child("mountPropagation"));
    propagation.maybe_one_of(&["Bidirectional", "HostToContainer", "None"]);
    let privileged = container.at("securityContext").at("privileged").is_true();
    if propagation.text() == "Bidirectional" && !privileged {
        propagation.forbidden("Bidirectional mount propagation is available only to privileged containers");
    }
    let recursive = mount.at("recursiveReadOnly").shown_at(mounts.path.child("recursiveReadOnly"));
    match recursive.text() {
        "Enabled" | "IfPossible" => {
            if !mount.at("readOnly").is_true() {
                recursive.forbidden("may only be specified when readOnly is true");
            }
            if !["", "None"].contains(&propagation.text()) {
                recursive.forbidden("may only be specified when mountPropagation is None or not specified");
            }
        }
        _ => recursive.maybe_one_of(&["Disabled", "Enabled", "IfPossible"]),
    }
}

/// Rule: a container's `volumeDevices`.
pub(crate) fn devices(container: &Field<'_>, context: &Context<'_>) {
    let mounts = container.at("volumeMounts");
    let (mut names, mut paths) = (Vec::new(), Vec::new());
    for device in container.at("volumeDevices").items() {
        let (name, path) = (device.at("name"), device.at("devicePath"));
        name.needs("");
        if names.contains(&name.text()) {
            name.invalid("must be unique");
        }
        let is_claim =
            |v: &Value| ["persistentVolumeClaim", "ephemeral"].iter().any(|key| !v[*key].is_null());
        match context.volume(name.text()) {
            None => name.fault(Error::not_found(&name.path, name.text())),
            Some(volume) if !is_claim(volume) => {
                name.invalid(
                    "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode",
                );
            }
            Some(_) => {}
        }
        path.needs("");
        if paths.contains(&path.text()) {
            path.invalid("must be unique");
        }
        if path.text().split('/').any(|part| part == "..") {
            path.invalid("can not contain backsteps ('..')");
        } else {
            paths.push(path.text());
        }
        if mounts.items().any(|m| m.at("name").text() == name.text()) {
            name.invalid("must not already exist in volumeMounts");
        }
        if mounts.items().any(|m| m.at("mountPath").text() == path.text()) {
            path.invalid("must not already exist as a path in volumeMounts");
        }
        names.push(name.text());
    }
}
