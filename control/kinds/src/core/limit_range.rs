//! `LimitRange`.

use proto_kube::field::Errors;
use proto_kube::quantity::{Amount, Quantity};
use proto_kube::{name, object};
use serde_json::Value;

use crate::Kind;
use crate::check::{self, Field};
use crate::pod::{default, resources};

pub(super) struct LimitRange;

impl Kind for LimitRange {
    fn default(&self, range: &mut Value) {
        default::within(range, "spec", |spec| default::each(spec, "limits", fill));
    }

    fn validate(&self, range: &Value) -> Errors {
        check::object(range, |range| {
            let limits = range.at("spec").at("limits");
            let mut seen = Vec::new();
            for limit in limits.items() {
                let kind = limit.at("type");
                of_kind(&kind);
                if seen.contains(&kind.text()) {
                    kind.duplicate();
                }
                seen.push(kind.text());
                names(&limit, kind.text());
                amounts(&limit);
            }
        })
    }

    fn creates_on_update(&self) -> bool {
        true
    }
}

/// A container's default limit is the most it may have, its default request the default limit or the least.
fn fill(limit: &mut Value) {
    for list in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
        default::amounts(limit, list);
    }
    if object::text(limit, &["type"]) != "Container" {
        return;
    }
    for (from, to) in [("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")] {
        let given = object::at(limit, &[from]).and_then(Value::as_object).cloned().unwrap_or_default();
        for (name, amount) in given {
            object::member(limit, to).entry(name).or_insert(amount);
        }
    }
}

fn of_kind(kind: &Field<'_>) {
    let faults = name::qualified(kind.text());
    let standard = ["Pod", "Container", "PersistentVolumeClaim"].contains(&kind.text());
    if faults.is_empty() && !kind.text().contains('/') && !standard {
        kind.invalid("must be a standard limit type or fully qualified");
    }
    kind.all_invalid(faults);
}

fn names(limit: &Field<'_>, kind: &str) {
    for list in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
        let list = limit.at(list);
        if kind == "Pod" && ["default", "defaultRequest"].iter().any(|l| limit.at(l).path == list.path) {
            if !list.is_empty() {
                list.forbidden("may not be specified when `type` is 'Pod'");
            }
            continue;
        }
        for (name, at) in list.entries() {
            match kind {
                "Pod" | "Container" => resources::resource_name(&at, name),
                _ => resources::any_name(&at, name),
            }
        }
    }
    let storage = |list: &str| limit.at(list).at("storage").is_set();
    if kind == "PersistentVolumeClaim" && !storage("min") && !storage("max") {
        limit
            .at("limits")
            .required("either minimum or maximum storage value is required, but neither was provided");
    }
}

fn amounts(limit: &Field<'_>) {
    let pod = limit.at("type").text() == "Pod";
    let mut keys = std::collections::BTreeSet::new();
    for list in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
        keys.extend(limit.at(list).entries().map(|(name, _)| name));
    }
    for name in keys {
        let get = |list: &str| limit.at(list).value.get(name).map(Quantity::of);
        let (min, max, ratio) = (get("min"), get("max"), get("maxLimitRequestRatio"));
        let (most, request) = if pod { (None, None) } else { (get("default"), get("defaultRequest")) };
        // Which list is shown, what is too large, what it is larger than, and which value is shown.
        for (list, (large, large_name), (small, small_name), shown) in [
            ("min", (min, "min"), (max, "max"), min),
            ("defaultRequest", (min, "min"), (request, "default request"), request),
            ("defaultRequest", (request, "default request"), (max, "max"), request),
            ("defaultRequest", (request, "default request"), (most, "default limit"), request),
            ("default", (min, "min"), (most, "default"), min),
            ("default", (most, "default"), (max, "max"), max),
        ] {
            let (Some(large), Some(small), Some(shown)) = (large, small, shown) else { continue };
            if large.amount > small.amount {
                let detail = format!("{large_name} value {large} is greater than {small_name} value {small}");
                limit.at(list).entry(name).invalid_value(shown.to_string(), detail);
            }
        }
        if let Some(ratio) = ratio {
            ratios(&limit.at("maxLimitRequestRatio").entry(name), ratio, min, max);
        }
        if let (Some(most), Some(request), false) = (most, request, resources::is_overcommitted(name))
            && most.amount != request.amount
        {
            let detail =
                format!("default value {most} must equal to defaultRequest value {request} in {name}");
            limit.at("defaultRequest").entry(name).invalid_value(request.to_string(), detail);
        }
    }
}

fn ratios(at: &Field<'_>, ratio: Quantity, min: Option<Quantity>, max: Option<Quantity>) {
    if ratio.amount < Amount::from_units(1) {
        at.invalid_value(ratio.to_string(), format!("ratio {ratio} is less than 1"));
    }
    if let (Some(min), Some(max)) = (min, max) {
        let number = |q: Quantity| q.amount.millis() as f64;
        let most = number(max) / number(min);
        if number(ratio) / 1000.0 > most {
            let detail = format!("ratio {ratio} is greater than max/min = {most:.6}");
            at.invalid_value(ratio.to_string(), detail);
        }
    }
}
