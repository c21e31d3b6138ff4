//! Requests and limits: what they may be, what a pod's are in all, and its quality of service.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use proto_kube::object;
use proto_kube::quantity::{Amount, Quantity};
use proto_kube::{field::Error, name};
use serde_json::{Map, Value};

use super::template::Context;
use crate::check::Field;

const MEMORY: &str = "memory";
const CPU: &str = "cpu";

/// Whether a resource is one of Kubernetes' own: without a domain, or with its own.
#[must_use]
pub fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Whether more of a resource may be promised than there is.
#[must_use]
pub fn is_overcommitted(name: &str) -> bool {
    is_native(name) && !is_huge(name)
}

/// Whether a resource is a size of huge pages.
#[must_use]
pub fn is_huge(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// Whether a resource is a device or the like, named by its vendor's domain.
#[must_use]
pub fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && name::qualified(&format!("requests.{name}")).is_empty()
}

/// Rule: the name of a resource that a container can ask for.
pub(crate) fn resource_name(at: &Field<'_>, resource: &str) {
    any_name(at, resource);
    if resource.contains('/') {
        if !is_native(resource) && !is_extended(resource) {
            at.invalid_value(resource, "doesn't follow extended resource name standard");
        }
        return;
    }
    if ![CPU, MEMORY, "ephemeral-storage"].contains(&resource) && !is_huge(resource) {
        at.invalid_value(resource, "must be a standard resource for containers");
    }
}

/// Rule: the name of a resource.
pub(crate) fn any_name(at: &Field<'_>, resource: &str) {
    let faults = name::qualified(resource);
    if faults.is_empty() && !resource.contains('/') && !is_standard(resource) {
        at.invalid_value(resource, "must be a standard resource type or fully qualified");
    }
    faults.into_iter().for_each(|fault| at.invalid_value(resource, fault));
}

/// Whether a quota can limit the resource, which has no domain.
#[must_use]
pub(crate) fn is_of_quotas(resource: &str) -> bool {
    const NAMES: &[&str] = &[
        "configmaps",
        "cpu",
        "ephemeral-storage",
        "limits.cpu",
        "limits.ephemeral-storage",
        "limits.memory",
        "memory",
        "persistentvolumeclaims",
        "pods",
        "replicationcontrollers",
        "requests.cpu",
        "requests.ephemeral-storage",
        "requests.memory",
        "requests.storage",
        "resourcequotas",
        "secrets",
        "services",
        "services.loadbalancers",
        "services.nodeports",
    ];
    NAMES.contains(&resource) || is_huge(resource) || resource.starts_with("requests.hugepages-")
}

/// Whether Kubernetes itself has a resource of the name.
#[must_use]
pub fn is_standard(resource: &str) -> bool {
    resource == "storage" || is_of_quotas(resource)
}

/// Rule: an amount of a resource: not negative, and whole where the resource cannot be divided.
pub(crate) fn quantity(at: &Field<'_>, resource: &str) -> Option<Amount> {
    let amount = at.quantity()?;
    if amount < Amount::default() {
        at.invalid("must be greater than or equal to 0");
    }
    let whole = !is_native(resource) || matches!(resource, "pods" | "services" | "secrets" | "configmaps");
    if whole && amount.millis() % 1000 != 0 {
        at.invalid("must be an integer");
    }
    Some(amount)
}

/// Rule: the `resources` of a container.
pub(crate) fn requirements(resources: &Field<'_>, context: &Context<'_>) {
    lists(resources, resource_name);
    claims(&resources.at("claims"), context);
}

/// Rule: limits and requests, whose names a rule looks at.
fn lists(resources: &Field<'_>, name_rule: fn(&Field<'_>, &str)) {
    let (limits, requests) = (resources.at("limits"), resources.at("requests"));
    for list in [&limits, &requests] {
        for (name, at) in list.entries() {
            name_rule(&at, name);
            if let Some(amount) = quantity(&at, name).filter(|_| is_huge(name)) {
                whole_pages(&at, name, amount);
            }
            if list.path == requests.path {
                against_limit(&at, name, &limits, &requests);
            }
        }
    }
    let has =
        |kind: fn(&str) -> bool| [&limits, &requests].iter().any(|list| list.entries().any(|(n, _)| kind(n)));
    if has(is_huge) && !has(|name| [CPU, MEMORY].contains(&name)) {
        resources.forbidden("HugePages require cpu or memory");
    }
}

fn against_limit(request: &Field<'_>, name: &str, limits: &Field<'_>, requests: &Field<'_>) {
    let Some(limit) = limits.value.get(name) else {
        if !is_overcommitted(name) {
            limits.required("Limit must be set for non overcommitable resources");
        }
        return;
    };
    let (asked, limit) = (Quantity::of(request.value), Quantity::of(limit));
    let rule = match asked.amount.cmp(&limit.amount) {
        Ordering::Less | Ordering::Greater if !is_overcommitted(name) => "equal to",
        Ordering::Greater => "less than or equal to",
        _ => return,
    };
    requests.invalid_value(asked.to_string(), format!("must be {rule} {name} limit of {limit}"));
}

fn whole_pages(at: &Field<'_>, name: &str, amount: Amount) {
    let page = name.strip_prefix("hugepages-").and_then(|size| Amount::parse(size).ok()).unwrap_or_default();
    let whole = page > Amount::default() && amount.units() % page.units().max(1) == 0;
    if !whole {
        let shown = Quantity::of(at.value).to_string();
        at.invalid_value(shown.clone(), format!("{shown} is not positive integer multiple of {name}"));
    }
}

fn claims(claims: &Field<'_>, context: &Context<'_>) {
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for claim in claims.items() {
        let (name, request) = (claim.at("name").text(), claim.at("request").text());
        if name.is_empty() {
            claim.required("");
            continue;
        }
        claim.at("request").shaped(name::label);
        let again =
            seen.iter().any(|(n, r)| *n == name && (r.is_empty() || request.is_empty() || *r == request));
        if again {
            claim.fault(Error::duplicate(&claim.path, name));
        }
        seen.push((name, request));
        if !context.claims.contains(&name) {
            let mut known = context.claims.clone();
            known.sort_unstable();
            let known = if known.is_empty() {
                " which is empty".to_owned()
            } else {
                format!(": {}", known.join(", "))
            };
            let detail = format!("must be one of the names in pod.spec.resourceClaims{known}");
            claim.fault(Error { detail, ..Error::not_found(&claim.path, name) });
        }
    }
}

/// Rule: the `resources` of a whole pod.
pub(crate) fn pod_level(spec: &Field<'_>, context: &Context<'_>) {
    let resources = spec.at("resources");
    if !resources.is_set() {
        return;
    }
    if resources.at("claims").is_set() {
        resources.at("claims").forbidden("claims cannot be set for Resources at pod-level");
    }
    lists(&resources, |at, name| {
        if ![CPU, MEMORY].contains(&name) && !is_huge(name) {
            at.fault(Error::not_supported(&at.path, name, &[CPU, "hugepages-", MEMORY]));
        }
    });
    claims(&resources.at("claims"), context);
    for (name, sum) in total(spec.value, "requests") {
        let at = resources.at("requests").entry(&name);
        let own = Quantity::of(at.value);
        if sum.amount > own.amount {
            let detail = format!("must be greater than or equal to aggregate container requests of {sum}");
            at.invalid_value(own.to_string(), detail);
        }
    }
    for (index, container) in spec.at("containers").items().enumerate() {
        for (name, limit) in container.at("resources").at("limits").entries() {
            let Some(most) = resources.value["limits"].get(name).map(Quantity::of) else { continue };
            let limit = Quantity::of(limit.value);
            if limit.amount > most.amount {
                let path = resources.path.child("containers").index(index).key(name).child("limits");
                let detail = format!("must be less than or equal to pod limits of {most}");
                resources.fault(Error::invalid(&path, limit.to_string(), detail));
            }
        }
    }
}

/// An amount for each resource.
pub type Amounts = BTreeMap<String, Quantity>;

fn amounts(list: Option<&Value>) -> Amounts {
    let list = list.and_then(Value::as_object).into_iter().flatten();
    list.map(|(name, value)| (name.clone(), Quantity::of(value))).collect()
}

fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = sum.entry(name.clone()).or_default();
        *sum = *sum + *amount;
    }
}

fn at_least(sum: &mut Amounts, least: &Amounts) {
    for (name, amount) in least {
        let sum = sum.entry(name.clone()).or_default();
        if amount.amount > sum.amount {
            *sum = *amount;
        }
    }
}

/// What all containers of a spec need together of a `list` (`requests` or `limits`): those that run side by side are
/// added, those that run before them one by one count with the largest, on top of the sidecars started by then.
#[must_use]
pub fn total(spec: &Value, list: &str) -> Amounts {
    let of = |container: &Value| amounts(object::at(container, &["resources", list]));
    let mut sum = Amounts::new();
    for container in object::items(spec, &["containers"]) {
        add(&mut sum, &of(container));
    }
    let (mut sidecars, mut peak) = (Amounts::new(), Amounts::new());
    for container in object::items(spec, &["initContainers"]) {
        let mut needs = of(container);
        if object::text(container, &["restartPolicy"]) == "Always" {
            add(&mut sum, &needs);
            add(&mut sidecars, &needs);
            needs = sidecars.clone();
        } else {
            add(&mut needs, &sidecars);
        }
        at_least(&mut peak, &needs);
    }
    at_least(&mut sum, &peak);
    sum
}

/// What a whole pod needs: its own `resources` go before those of its containers, and its overhead comes on top.
#[must_use]
pub fn of_pod(spec: &Value, list: &str) -> Amounts {
    let mut sum = total(spec, list);
    for (name, amount) in amounts(object::at(spec, &["resources", list])) {
        sum.insert(name, amount);
    }
    let overhead = amounts(object::at(spec, &["overhead"]));
    match list {
        "requests" => add(&mut sum, &overhead),
        _ => {
            for (name, amount) in overhead {
                if let Some(sum) = sum.get_mut(&name) {
                    *sum = *sum + amount;
                }
            }
        }
    }
    sum
}

/// Fills in a pod's own resources where they are given in part: requests follow those of the containers, then the pod's
/// limits; limits follow those of the containers, where each has one.
pub(crate) fn default_pod_level(spec: &mut Value) {
    let supported = |name: &str| [CPU, MEMORY].contains(&name) || is_huge(name);
    let list = |spec: &Value, list: &str| -> Map<String, Value> {
        object::at(spec, &["resources", list]).and_then(Value::as_object).cloned().unwrap_or_default()
    };
    let (mut limits, mut requests) = (list(spec, "limits"), list(spec, "requests"));
    if !limits.is_empty() {
        for (name, sum) in total(spec, "requests") {
            if supported(&name) && is_overcommitted(&name) {
                requests.entry(name).or_insert_with(|| sum.to_string().into());
            }
        }
        for (name, limit) in limits.iter().filter(|(name, _)| supported(name)) {
            requests.entry(name.clone()).or_insert_with(|| limit.clone());
        }
        if !requests.is_empty() {
            spec["resources"]["requests"] = Value::Object(requests);
        }
    } else if requests.keys().any(|name| supported(name)) {
        for (name, sum) in total(spec, "limits") {
            let everyone = object::items(spec, &["containers"])
                .chain(object::items(spec, &["initContainers"]))
                .all(|c| object::at(c, &["resources", "limits", &name]).is_some());
            if supported(&name) && is_overcommitted(&name) && everyone {
                limits.insert(name, sum.to_string().into());
            }
        }
        if !limits.is_empty() {
            spec["resources"]["limits"] = Value::Object(limits);
        }
    }
}

/// The quality of service of a pod by its spec: `Guaranteed`, `Burstable` or `BestEffort`.
#[must_use]
pub fn qos(spec: &Value) -> &'static str {
    let counted = |list: Option<&Value>| {
        let mut list = amounts(list);
        list.retain(|name, q| [CPU, MEMORY].contains(&name.as_str()) && q.amount > Amount::default());
        list
    };
    let own = object::at(spec, &["resources"]);
    let bearers: Vec<&Value> = match own {
        Some(_) => vec![spec],
        None => {
            object::items(spec, &["containers"]).chain(object::items(spec, &["initContainers"])).collect()
        }
    };
    let (mut requests, mut limits, mut guaranteed) = (Amounts::new(), Amounts::new(), true);
    for bearer in bearers {
        add(&mut requests, &counted(object::at(bearer, &["resources", "requests"])));
        let own = counted(object::at(bearer, &["resources", "limits"]));
        guaranteed &= own.len() == 2;
        add(&mut limits, &own);
    }
    if requests.is_empty() && limits.is_empty() {
        "BestEffort"
    } else if guaranteed
        && requests.len() == limits.len()
        && requests.iter().all(|(n, r)| limits.get(n).is_some_and(|l| l.amount == r.amount))
    {
        "Guaranteed"
    } else {
        "Burstable"
    }
}
