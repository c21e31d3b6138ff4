//! The template of pods that workloads hold: a pod without a name. What a pod and a template share is here.

use proto_kube::field::{Errors, Path};
use proto_kube::{name, object};
use serde_json::Value;

use super::{container, default, resources, scheduling, security, volume};
use crate::check::{self, Field};
use crate::meta;

/// What rules of a spec's parts need to know of the whole.
#[derive(Debug, Default)]
pub(crate) struct Context<'a> {
    /// The volumes without faults, by name.
    pub(crate) volumes: Vec<(&'a str, &'a Value)>,
    /// The names of the resource claims.
    pub(crate) claims: Vec<&'a str>,
    /// The seconds a container has to end.
    pub(crate) grace: Option<i64>,
    /// As `Always`.
    pub(crate) restart_policy: &'a str,
    /// Whether the pod shares the users of its node.
    pub(crate) host_users: bool,
    /// The pod's name; empty for a template, which has none.
    pub(crate) pod: &'a str,
}

impl<'a> Context<'a> {
    /// The volume of a name.
    pub(crate) fn volume(&self, name: &str) -> Option<&'a Value> {
        self.volumes.iter().find(|(n, _)| *n == name).map(|(_, volume)| *volume)
    }
}

/// Sets what a `PodTemplateSpec` leaves out.
pub fn default(template: &mut Value) {
    if let Some(spec) = template.get_mut("spec").filter(|s| s.is_object()) {
        default::spec(spec);
    }
}

/// Rule: a `PodTemplateSpec`.
pub fn validate(template: &Field<'_>) {
    let (metadata, spec) = (template.at("metadata"), template.at("spec"));
    // Upstream leaves `metadata` out of these two paths.
    let [labels, annotations] =
        ["labels", "annotations"].map(|key| metadata.at(key).shown_at(template.path.child(key)));
    meta::labels(&labels);
    meta::annotations(&annotations);
    security::annotations(&annotations, &spec);
    validate_spec(&spec, "");
    if !spec.at("ephemeralContainers").is_empty() {
        spec.at("ephemeralContainers").forbidden("ephemeral containers not allowed in pod template");
    }
}

/// What a client should know of a `PodTemplateSpec` at a path, beside what it was told of the `old` one.
#[must_use]
pub fn warnings(path: &Path, template: &Value, old: Option<&Value>) -> Vec<String> {
    super::warnings::of(path, template, old)
}

/// What is wrong with the `PodTemplateSpec` at a path of members of an object.
#[must_use]
pub fn errors(object: &Value, path: &[&str]) -> Errors {
    check::object(object, |root| validate(&path.iter().fold(root, |at, key| at.at(key))))
}

/// Rule: a `PodSpec`, of the pod of a name, or with an empty name of a template.
pub(crate) fn validate_spec(spec: &Field<'_>, pod: &str) {
    let value = spec.value;
    spec.at("terminationGracePeriodSeconds").needs_value("");
    let volumes = volume::validate(&spec.at("volumes"), pod);
    let context = Context {
        volumes,
        claims: object::items(value, &["resourceClaims"]).map(|c| object::text(c, &["name"])).collect(),
        grace: spec.at("terminationGracePeriodSeconds").number(),
        restart_policy: object::text(value, &["restartPolicy"]),
        host_users: object::at(value, &["hostUsers"]) != Some(&Value::Bool(false)),
        pod,
    };
    claims(&spec.at("resourceClaims"));
    container::all(spec, &context);
    resources::pod_level(spec, &context);
    host_ports(spec, &context);
    spec.at("restartPolicy").one_of(&["Always", "OnFailure", "Never"]);
    spec.at("dnsPolicy").one_of(&["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"]);
    meta::labels(&spec.at("nodeSelector"));
    security::pod(spec);
    scheduling::affinity(&spec.at("affinity"));
    dns(spec);
    for gate in spec.at("readinessGates").items() {
        let kind = gate.at("conditionType");
        kind.all_invalid(name::qualified(kind.text()));
    }
    scheduling::gates(&spec.at("schedulingGates"));
    scheduling::spread(&spec.at("topologySpreadConstraints"));
    security::host(spec, &context);
    names(spec);
    rest(spec, &context);
}

fn claims(claims: &Field<'_>) {
    let mut seen: Vec<&str> = Vec::new();
    for claim in claims.items() {
        let (name, one, other) =
            (claim.at("name"), claim.at("resourceClaimName"), claim.at("resourceClaimTemplateName"));
        if name.needs("") {
            if seen.contains(&name.text()) {
                name.duplicate();
            } else {
                name.all_invalid(name::label(name.text()));
            }
            seen.push(name.text());
        }
        match (one.is_set(), other.is_set()) {
            (true, true) => claim.invalid(
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
            ),
            (false, false) => {
                claim.invalid("must specify one of: `resourceClaimName`, `resourceClaimTemplateName`");
            }
            _ => {}
        }
        for of in [one, other].into_iter().filter(Field::is_set) {
            of.all_invalid(name::subdomain(of.text()));
        }
    }
}

fn host_ports(spec: &Field<'_>, context: &Context<'_>) {
    if !spec.at("hostNetwork").is_true() {
        return;
    }
    for container in spec.at("containers").items() {
        for port in container.at("ports").items() {
            let (host, own) = (port.at("hostPort"), port.at("containerPort"));
            let matters = !context.pod.is_empty() || host.number_or_zero() != 0;
            if matters && host.number_or_zero() != own.number_or_zero() {
                host.invalid_value(
                    host.number_or_zero(),
                    "must match `containerPort` when `hostNetwork` is true",
                );
            }
        }
    }
}

/// The most name servers, search paths, and characters of all search paths that the C library takes.
const DNS: (usize, usize, usize) = (3, 32, 2048);

fn dns(spec: &Field<'_>) {
    let config = spec.at("dnsConfig");
    let servers = config.at("nameservers");
    if spec.at("dnsPolicy").text() == "None" {
        if !config.is_set() {
            return config.required("must provide `dnsConfig` when `dnsPolicy` is None");
        }
        if servers.is_empty() {
            return servers.required("must provide at least one DNS nameserver when `dnsPolicy` is None");
        }
    }
    if servers.len() > DNS.0 {
        servers.invalid(format!("must not have more than {} nameservers", DNS.0));
    }
    servers.items().for_each(|server| check::net::ip(&server));
    let searches = config.at("searches");
    if searches.len() > DNS.1 {
        searches.invalid(format!("must not have more than {} search paths", DNS.1));
    }
    let length = searches.items().map(|s| s.text().len() + 1).sum::<usize>().saturating_sub(1);
    if length > DNS.2 {
        let detail =
            format!("must not have more than {} characters (including spaces) in the search list", DNS.2);
        searches.invalid(detail);
    }
    for search in searches.items().filter(|s| s.text() != ".") {
        let text = search.text().strip_suffix('.').unwrap_or(search.text());
        for fault in check::net::subdomain_with_underscore(text) {
            search.invalid_value(text, fault);
        }
    }
    for option in config.at("options").items() {
        if option.at("name").is_empty() {
            option.required("must not be empty");
        }
    }
}

/// The names that a spec refers to.
fn names(spec: &Field<'_>) {
    for (key, shape) in [
        ("serviceAccountName", name::subdomain as fn(&str) -> Vec<String>),
        ("nodeName", name::subdomain),
        ("hostname", name::label),
        ("subdomain", name::label),
        ("priorityClassName", name::subdomain),
    ] {
        spec.at(key).shaped(shape);
    }
    let class = spec.at("runtimeClassName");
    if class.is_set() {
        class.all_invalid(name::subdomain(class.text()));
    }
    let hostname = spec.at("hostnameOverride");
    if hostname.is_set() {
        let text = hostname.text();
        hostname.all_invalid(name::subdomain(text));
        if text.len() > 64 {
            hostname.fault(proto_kube::field::Error::too_long(&hostname.path, 64));
        }
        if spec.at("hostNetwork").is_true() {
            spec.at("hostNetwork").forbidden("may not be true when hostnameOverride is set");
        }
        if spec.at("setHostnameAsFQDN").is_true() {
            hostname.forbidden("may not be specified when setHostnameAsFQDN is true");
        }
    }
}

fn rest(spec: &Field<'_>, context: &Context<'_>) {
    spec.at("activeDeadlineSeconds").between(1, i64::from(i32::MAX));
    scheduling::tolerations(&spec.at("tolerations"));
    for alias in spec.at("hostAliases").items() {
        check::net::ip(&alias.at("ip"));
        for host in alias.at("hostnames").items() {
            host.all_invalid(name::subdomain(host.text()));
        }
    }
    let preemption = spec.at("preemptionPolicy");
    if preemption.is_set() {
        preemption.one_of(&["PreemptLowerPriority", "Never"]);
    }
    let overhead = spec.at("overhead");
    if overhead.is_set() {
        let limits = serde_json::json!({"limits": overhead.value});
        let found = check::at(&limits, &overhead.path, |o| resources::requirements(&o, context));
        overhead.faults(found);
    }
    if spec.at("hostNetwork").value != &serde_json::Value::Bool(true) && security::has_host_process(spec) {
        let detail = "hostNetwork must be true if pod contains any hostProcess containers";
        spec.at("hostNetwork").invalid_value(false, detail);
    }
    let os = spec.at("os");
    if os.is_set() && os.at("name").needs("") {
        match os.at("name").text() {
            "linux" => security::no_windows(spec),
            "windows" => security::windows(spec),
            _ => os.at("name").shown_at(os.path.clone()).not_supported(&["linux", "windows"]),
        }
    }
}
