//! `CronJob`: a job that is made again and again, by a schedule.

use jiff::Timestamp;
use proto_kube::cron::Schedule;
use proto_kube::field::Errors;
use proto_kube::{object, zone};
use serde_json::{Value, json};

use super::job;
use crate::Kind;
use crate::apps::workload;
use crate::check::{self, Field};
use crate::column::{self, AGE, Column, NAME, boolean, integer, text, wide};

/// The longest name that leaves room for the eleven characters which end a job's.
const NAME_MOST: usize = 52;

pub(super) struct CronJob;

impl Kind for CronJob {
    fn default(&self, object: &mut Value) {
        object::member(object, "spec");
        let spec = &mut object["spec"];
        workload::default_text(spec, "concurrencyPolicy", "Allow");
        object::default(spec, "suspend", false);
        object::default(spec, "successfulJobsHistoryLimit", 3);
        object::default(spec, "failedJobsHistoryLimit", 1);
        job::default_template(workload::within(spec, &["jobTemplate", "spec"]));
    }

    fn generation(&self) -> &'static [&'static str] {
        &["spec"]
    }

    fn initial_status(&self) -> Option<Value> {
        Some(json!({}))
    }

    fn validate(&self, object: &Value) -> Errors {
        check::object(object, |object| {
            spec(&object.at("spec"), None);
            let name = object.at("metadata").at("name");
            if name.text().len() > NAME_MOST {
                name.invalid("must be no more than 52 characters");
            }
        })
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Errors {
        check::object(new, |new| spec(&new.at("spec"), Some(&old["spec"])))
    }

    fn validate_status(&self, _new: &Value, _old: &Value) -> Errors {
        Errors::new()
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let mut warnings = Vec::new();
        if old.is_none() {
            warnings.extend(workload::name_warning(new));
        }
        warnings.extend(job::spec_warnings(new, old, &["spec", "jobTemplate", "spec"]));
        if old.is_some() && object::text(new, &["spec", "schedule"]).contains("TZ") {
            warnings.push("cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details".to_owned());
        }
        warnings
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            text("Schedule", "When jobs are made, in cron's form."),
            text("Timezone", "The time zone of the schedule."),
            boolean("Suspend", "Whether no jobs are made for now."),
            integer("Active", "How many of its jobs are running."),
            text("Last Schedule", "The time since a job was last made."),
            AGE,
            workload::CONTAINERS,
            workload::IMAGES,
            wide(text("Selector", "Which pods belong to the jobs.")),
        ];
        COLUMNS
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let last = match object::at(object, &["status", "lastScheduleTime"]) {
            Some(_) => column::since(object, &["status", "lastScheduleTime"], now),
            None => "<none>".into(),
        };
        let suspend = match object::at(object, &["spec", "suspend"]).and_then(Value::as_bool) {
            Some(true) => "True",
            Some(false) => "False",
            None => "<unset>",
        };
        let middle = vec![
            object::text(object, &["spec", "schedule"]).into(),
            column::or_none(object::text(object, &["spec", "timeZone"])),
            suspend.into(),
            object::items(object, &["status", "active"]).count().into(),
            last,
        ];
        let mut cells = workload::row(object, middle, now);
        cells.extend(workload::wide_cells(&object["spec"]["jobTemplate"]["spec"]));
        cells
    }
}

fn spec(spec: &Field<'_>, old: Option<&Value>) {
    schedule(spec, old);
    spec.at("startingDeadlineSeconds").non_negative();
    let zone = spec.at("timeZone");
    if zone.is_set() && old.is_none_or(|old| &old["timeZone"] != zone.value) {
        zone.all_invalid(zone::fault(zone.text()));
    }
    spec.at("concurrencyPolicy").one_of(&["Allow", "Forbid", "Replace"]);
    let template = spec.at("jobTemplate").at("spec");
    job::template_rules(&template);
    if template.at("selector").is_set() {
        template.at("selector").invalid("`selector` will be auto-generated");
    }
    if template.at("manualSelector").is_true() {
        template.at("manualSelector").not_supported(&["nil", "false"]);
    }
    spec.at("successfulJobsHistoryLimit").non_negative();
    spec.at("failedJobsHistoryLimit").non_negative();
}

fn schedule(spec: &Field<'_>, old: Option<&Value>) {
    let schedule = spec.at("schedule");
    if !schedule.needs("") {
        return;
    }
    schedule.all_invalid(Schedule::parse(schedule.text()).err());
    if schedule.text().contains("TZ") {
        if !old.is_some_and(|old| object::text(old, &["schedule"]).contains("TZ")) {
            schedule.invalid("cannot use TZ or CRON_TZ in schedule, use timeZone field instead");
        } else if spec.at("timeZone").is_set() {
            schedule.invalid("cannot use both timeZone field and TZ or CRON_TZ in schedule");
        }
    }
}
