//! Rules for probes and for what runs when a container starts and stops.

use super::template::Context;
use crate::check::Field;
use crate::check::net;

/// Rule: the probes of a container.
pub(crate) fn all(container: &Field<'_>, context: &Context<'_>) {
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = container.member(key) else { continue };
        one(&probe, context);
        let grace = probe.at("terminationGracePeriodSeconds");
        if key == "readinessProbe" {
            if grace.is_set() {
                grace.invalid("must not be set for readinessProbes");
            }
        } else if probe.at("successThreshold").number_or_zero() != 1 {
            let threshold = probe.at("successThreshold");
            threshold.invalid_value(threshold.number_or_zero(), "must be 1");
        }
    }
}

fn one(probe: &Field<'_>, context: &Context<'_>) {
    handler(probe, &["exec", "httpGet", "tcpSocket", "grpc"], context);
    for key in
        ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
    {
        probe.at(key).non_negative();
    }
    probe.at("terminationGracePeriodSeconds").positive();
}

/// Rule: a container's `lifecycle`.
pub(crate) fn lifecycle(lifecycle: &Field<'_>, context: &Context<'_>) {
    for key in ["postStart", "preStop"] {
        if let Some(hook) = lifecycle.member(key) {
            handler(&hook, &["exec", "httpGet", "tcpSocket", "sleep"], context);
        }
    }
}

fn handler(handler: &Field<'_>, kinds: &[&str], context: &Context<'_>) {
    let mut found = 0;
    for key in kinds {
        let Some(action) = handler.member(key) else { continue };
        found += 1;
        if found > 1 {
            action.forbidden("may not specify more than 1 handler type");
            continue;
        }
        match *key {
            "exec" => drop(action.at("command").needs("")),
            "httpGet" => http(&action),
            "sleep" => sleep(&action, context),
            _ => net::port(&action.at("port")),
        }
    }
    if found == 0 {
        handler.required("must specify a handler type");
    }
}

fn http(get: &Field<'_>) {
    get.at("path").needs("");
    net::port(&get.at("port"));
    if !["HTTP", "HTTPS"].contains(&get.at("scheme").text()) {
        get.at("scheme").not_supported(&["HTTP", "HTTPS"]);
    }
    let headers = get.at("httpHeaders");
    for header in headers.items() {
        let name = header.at("name").text();
        net::header(name).into_iter().for_each(|fault| headers.invalid_value(name, fault));
    }
}

fn sleep(sleep: &Field<'_>, context: &Context<'_>) {
    let seconds = sleep.at("seconds").number_or_zero();
    if let Some(grace) = context.grace.filter(|grace| !(0..=*grace).contains(&seconds)) {
        let detail = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        sleep.invalid_value(seconds, detail);
    }
}
