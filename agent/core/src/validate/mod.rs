//! Whether a manifest makes a pod that this node can run, said as the API server says it: field, value, what was
//! expected. All problems are found, not only the first.

mod container;
mod volume;

use std::collections::BTreeSet;
use std::fmt;

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use proto_kube::name;

use crate::admit::SAFE_SYSCTLS;
use crate::pod;

/// Something is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// Its path: `spec.containers[0].name`.
    pub field: String,
    /// What is wrong.
    pub fault: Fault,
    /// What is expected, or what to do.
    pub detail: String,
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It has to be there.
    Required,
    /// Its value is none of those it may have.
    Unsupported(String),
    /// Its value does not fit.
    Invalid(String),
    /// Another has the same value.
    Duplicate(String),
    /// It may not be there.
    Forbidden,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.field)?;
        match &self.fault {
            Fault::Required => f.write_str("Required value")?,
            Fault::Unsupported(value) => write!(f, "Unsupported value: {value:?}")?,
            Fault::Invalid(value) => write!(f, "Invalid value: {value}")?,
            Fault::Duplicate(value) => write!(f, "Duplicate value: {value:?}")?,
            Fault::Forbidden => f.write_str("Forbidden")?,
        }
        if self.detail.is_empty() { Ok(()) } else { write!(f, ": {}", self.detail) }
    }
}

/// Collects problems.
#[derive(Default)]
struct Findings(Vec<Invalid>);

impl Findings {
    fn add(&mut self, field: &str, fault: Fault, detail: impl Into<String>) {
        self.0.push(Invalid { field: field.to_owned(), fault, detail: detail.into() });
    }

    fn required(&mut self, field: &str, detail: &str) {
        self.add(field, Fault::Required, detail);
    }

    fn forbidden(&mut self, field: &str, detail: &str) {
        self.add(field, Fault::Forbidden, detail);
    }

    /// `forbidden` when it is there.
    fn absent<T>(&mut self, field: &str, value: Option<&T>, detail: &str) {
        if value.is_some() {
            self.forbidden(field, detail);
        }
    }

    fn text(&mut self, field: &str, value: &str, detail: impl Into<String>) {
        self.add(field, Fault::Invalid(format!("{value:?}")), detail);
    }

    fn number(&mut self, field: &str, value: impl fmt::Display, detail: &str) {
        self.add(field, Fault::Invalid(value.to_string()), detail);
    }

    /// A name that has to keep a rule of [`proto_kube::name`].
    fn name(&mut self, field: &str, text: &str, rule: fn(&str) -> Vec<String>) {
        for fault in rule(text) {
            self.text(field, text, fault);
        }
    }

    /// The value, if given, is one of these.
    fn one_of(&mut self, field: &str, value: Option<&str>, supported: &[&str]) {
        if let Some(value) = value.filter(|v| !supported.contains(v)) {
            let list: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
            self.add(
                field,
                Fault::Unsupported(value.to_owned()),
                format!("supported values: {}", list.join(", ")),
            );
        }
    }

    fn at_least(&mut self, field: &str, value: Option<i64>, least: i64) {
        if let Some(value) = value.filter(|v| *v < least) {
            self.number(field, value, &format!("must be greater than or equal to {least}"));
        }
    }

    /// A name in a list in which each occurs once.
    fn unique(&mut self, field: &str, name: &str, seen: &mut BTreeSet<String>) {
        if !seen.insert(name.to_owned()) {
            self.add(field, Fault::Duplicate(name.to_owned()), "");
        }
    }
}

/// All that is wrong with a pod that comes from a file instead of the API server.
#[must_use]
pub fn static_pod(pod: &Pod) -> Vec<Invalid> {
    let mut findings = Findings::default();
    metadata(&mut findings, pod);
    match &pod.spec {
        None => findings.required("spec", "a pod needs a spec with containers"),
        Some(spec) => {
            self::spec(&mut findings, spec);
            unsupported(&mut findings, spec);
            host(&mut findings, spec);
            dns(&mut findings, spec);
            volume::all(&mut findings, spec);
            container::all(&mut findings, pod);
        }
    }
    findings.0
}

fn metadata(findings: &mut Findings, pod: &Pod) {
    let meta = &pod.metadata;
    match meta.name.as_deref().filter(|n| !n.is_empty()) {
        None => findings.required("metadata.name", "name is required"),
        Some(name) => findings.name("metadata.name", name, name::subdomain),
    }
    if let Some(namespace) = meta.namespace.as_deref() {
        findings.name("metadata.namespace", namespace, name::label);
    }
    for (key, value) in meta.labels.iter().flatten() {
        findings.name("metadata.labels", key, name::qualified);
        findings.name("metadata.labels", value, name::label_value);
    }
    for key in meta.annotations.iter().flat_map(|a| a.keys()) {
        findings.name("metadata.annotations", &key.to_lowercase(), name::qualified);
    }
}

fn spec(findings: &mut Findings, spec: &PodSpec) {
    if spec.containers.is_empty() {
        findings.required("spec.containers", "a pod needs at least one container");
    }
    findings.one_of("spec.restartPolicy", spec.restart_policy.as_deref(), &["Always", "OnFailure", "Never"]);
    findings.at_least("spec.activeDeadlineSeconds", spec.active_deadline_seconds, 1);
    findings.at_least("spec.terminationGracePeriodSeconds", spec.termination_grace_period_seconds, 0);
    for (field, value) in [("spec.hostname", &spec.hostname), ("spec.subdomain", &spec.subdomain)] {
        if let Some(value) = value {
            findings.name(field, value, name::label);
        }
    }
    if spec.share_process_namespace == Some(true) && spec.host_pid == Some(true) {
        let text = "ShareProcessNamespace and HostPID cannot both be enabled";
        findings.number("spec.shareProcessNamespace", true, text);
    }
    if let Some(security) = &spec.security_context {
        for (field, value) in [
            ("runAsUser", security.run_as_user),
            ("runAsGroup", security.run_as_group),
            ("fsGroup", security.fs_group),
        ] {
            container::id(findings, &format!("spec.securityContext.{field}"), value);
        }
        for (n, group) in security.supplemental_groups.iter().flatten().enumerate() {
            container::id(findings, &format!("spec.securityContext.supplementalGroups[{n}]"), Some(*group));
        }
        container::seccomp(
            findings,
            "spec.securityContext.seccompProfile",
            security.seccomp_profile.as_ref(),
        );
    }
}

/// What only an API server could provide, and what this node does not do.
fn unsupported(findings: &mut Findings, spec: &PodSpec) {
    let reference = "static pods may not reference";
    let account = spec.service_account_name.as_ref().or(spec.service_account.as_ref());
    findings.absent(
        "spec.serviceAccountName",
        account.filter(|a| !a.is_empty() && *a != "default"),
        &format!("{reference} serviceaccounts: remove it"),
    );
    findings.absent(
        "spec.imagePullSecrets",
        spec.image_pull_secrets.as_ref().filter(|s| !s.is_empty()),
        &format!("{reference} secrets: put the credentials into the node's docker config.json"),
    );
    findings.absent(
        "spec.resourceClaims",
        spec.resource_claims.as_ref().filter(|c| !c.is_empty()),
        &format!("{reference} resourceclaims: remove them"),
    );
    let ephemeral = spec.ephemeral_containers.as_ref().filter(|c| !c.is_empty());
    findings.absent("spec.ephemeralContainers", ephemeral, "static pods may not have ephemeral containers");
    let gates = spec.scheduling_gates.as_ref().filter(|g| !g.is_empty());
    findings.absent(
        "spec.schedulingGates",
        gates,
        "nobody would ever open them for a static pod: remove them",
    );
    let own = (spec.host_users == Some(false)).then_some(&());
    findings.absent("spec.hostUsers", own, "user namespaces are not supported by this node yet: remove it");
    if let Some(os) = spec.os.as_ref().filter(|os| os.name != "linux") {
        findings.add("spec.os.name", Fault::Unsupported(os.name.clone()), "this node runs linux");
    }
}

fn host(findings: &mut Findings, spec: &PodSpec) {
    let sysctls = spec.security_context.as_ref().and_then(|s| s.sysctls.as_ref());
    for (n, sysctl) in sysctls.into_iter().flatten().enumerate() {
        let field = format!("spec.securityContext.sysctls[{n}].name");
        let name = sysctl.name.replace('/', ".");
        if !SAFE_SYSCTLS.contains(&name.as_str()) {
            findings.forbidden(
                &field,
                &format!("unsafe sysctl {name:?}: safe ones are {}", SAFE_SYSCTLS.join(", ")),
            );
        } else if name.starts_with("net.") && spec.host_network == Some(true) {
            findings.text(&field, &name, "may not be specified when 'hostNetwork' is true");
        } else if name.starts_with("kernel.") && spec.host_ipc == Some(true) {
            findings.text(&field, &name, "may not be specified when 'hostIPC' is true");
        }
    }
    for (n, alias) in spec.host_aliases.iter().flatten().enumerate() {
        if alias.ip.parse::<std::net::IpAddr>().is_err() {
            findings.text(&format!("spec.hostAliases[{n}].ip"), &alias.ip, "must be a valid IP address");
        }
    }
}

fn dns(findings: &mut Findings, spec: &PodSpec) {
    let policy = spec.dns_policy.as_deref();
    findings.one_of(
        "spec.dnsPolicy",
        policy,
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
    );
    let servers = spec.dns_config.as_ref().and_then(|c| c.nameservers.as_deref()).unwrap_or_default();
    if policy == Some("None") && servers.is_empty() {
        findings.required(
            "spec.dnsConfig.nameservers",
            "must provide at least one DNS nameserver when `dnsPolicy` is None",
        );
    }
    for (n, server) in servers.iter().enumerate() {
        if server.parse::<std::net::IpAddr>().is_err() {
            findings.text(&format!("spec.dnsConfig.nameservers[{n}]"), server, "must be a valid IP address");
        }
    }
}

/// Init containers first, with their paths.
fn containers(pod: &Pod) -> impl Iterator<Item = (String, &k8s_openapi::api::core::v1::Container, bool)> {
    let named = |list: &'static str, init| move |(n, c)| (format!("spec.{list}[{n}]"), c, init);
    let inits = pod::init_containers(pod).iter().enumerate().map(named("initContainers", true));
    inits.chain(pod::containers(pod).iter().enumerate().map(named("containers", false)))
}

#[cfg(test)]
mod tests;
