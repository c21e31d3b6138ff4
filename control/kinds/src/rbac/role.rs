//! `Role` and `ClusterRole`: what may be done.

use proto_kube::field::Errors;
use proto_kube::name;
use serde_json::Value;

use crate::check::{self, Field};
use crate::{Kind, meta};

pub(super) struct Role {
    pub(super) namespaced: bool,
}

impl Kind for Role {
    fn name(&self, text: &str, _prefix: bool) -> Vec<String> {
        name::path_segment(text)
    }

    fn validate(&self, object: &Value) -> Errors {
        check::object(object, |object| {
            object.at("rules").items().for_each(|rule| self.rule(&rule));
            if let Some(aggregation) = object.member("aggregationRule") {
                let selectors = aggregation.at("clusterRoleSelectors");
                selectors.needs("at least one clusterRoleSelector required if aggregationRule is non-nil");
                selectors.items().for_each(|selector| meta::label_selector(&selector));
            }
        })
    }

    fn creates_on_update(&self) -> bool {
        true
    }
}

impl Role {
    fn rule(&self, rule: &Field<'_>) {
        rule.at("verbs").needs("verbs must contain at least one value");
        let paths = rule.at("nonResourceURLs");
        if !paths.is_empty() {
            if self.namespaced {
                paths.invalid("namespaced rules cannot apply to non-resource URLs");
            }
            if ["apiGroups", "resources", "resourceNames"].iter().any(|member| !rule.at(member).is_empty()) {
                paths.invalid("rules cannot apply to both regular resources and non-resource URLs");
            }
            return;
        }
        rule.at("apiGroups").needs("resource rules must supply at least one api group");
        rule.at("resources").needs("resource rules must supply at least one resource");
    }
}
