//! The form that creates a task.

use maud::{Markup, html};
use serde_json::{Map, Value};

use super::fields::{Field, Kind, Typed, WHOLE};
use super::new_link;
use crate::server::storage::TypeCounts;

/// A form as it is shown.
pub(super) struct Form<'a> {
    pub(super) task_type: &'a str,
    pub(super) schema: &'a Value,
    pub(super) fields: &'a [Field],
    /// Whether the params are written as JSON.
    pub(super) as_json: bool,
    /// What was typed before.
    pub(super) typed: &'a Typed,
    /// Why that was refused.
    pub(super) wrong: &'a Wrong,
}

/// What is wrong with what was typed.
#[derive(Default)]
pub(super) struct Wrong {
    /// In the words of the schema's check.
    pub(super) params: Vec<String>,
    pub(super) priority: bool,
}

impl Wrong {
    pub(super) fn is_nothing(&self) -> bool {
        self.params.is_empty() && !self.priority
    }
}

/// The types to choose from.
pub(super) fn choice(types: &[TypeCounts]) -> Markup {
    html! {
        h1 { "New task" }
        @if types.is_empty() {
            p { "No task types yet. Register one with " code { "prismq register-type" } "." }
        } @else {
            section {
                h2 { "Task type" }
                ul.rows {
                    @for it in types.iter().filter(|it| it.is_active) {
                        li { a href=(new_link(&it.name)) { (it.name) } }
                    }
                }
            }
        }
    }
}

impl Form<'_> {
    pub(super) fn main(&self) -> Markup {
        html! {
            h1 { "New task: " (self.task_type) }
            @if !self.wrong.is_nothing() { p.trouble role="alert" { "Not created: " (self.trouble()) "." } }
            section { (self.inputs()) }
            @if !self.as_json {
                p { a href=(format!("{}&as=json", new_link(self.task_type))) { "Edit params as JSON" } }
            } @else if !self.fields.is_empty() {
                p { a href=(new_link(self.task_type)) { "Use the form" } }
            }
            details {
                summary { "Params schema" }
                pre { (serde_json::to_string_pretty(self.schema).unwrap_or_default()) }
            }
        }
    }

    /// What is wrong with no field of its own, and how many fields are marked.
    fn trouble(&self) -> String {
        let marked = self.fields.iter().filter(|field| self.error_in(field).is_some()).count();
        let marked = marked + usize::from(self.wrong.priority);
        let has_field = |error: &&String| !self.as_json && self.fields.iter().any(|it| it.error_in(error).is_some());
        let mut said: Vec<String> = self.wrong.params.iter().filter(|error| !has_field(error)).cloned().collect();
        match marked {
            0 => {}
            1 => said.push("see the marked field".to_owned()),
            _ => said.push(format!("see the {marked} marked fields")),
        }
        said.join("; ")
    }

    fn inputs(&self) -> Markup {
        let invalid = self.wrong.priority.then_some("true");
        html! {
            form method="post" action="/new" {
                input type="hidden" name="type" value=(self.task_type);
                @if self.as_json { (self.whole()) } @else { @for field in self.fields { (self.field(field)) } }
                div.field {
                    label for="priority" { "Priority" }
                    input #priority name="priority" inputmode="numeric" autocomplete="off"
                        value=(self.value("priority", "0")) aria-invalid=[invalid] aria-describedby="priority-hint";
                    div #priority-hint {
                        @if self.wrong.priority { p.bad-text role="alert" { "Not a whole number." } }
                    }
                }
                button { "Create task" }
            }
        }
    }

    /// What was typed into a field, or what it begins with.
    fn value<'a>(&'a self, id: &str, default: &'a str) -> &'a str {
        self.typed.get(id).map_or(default, String::as_str)
    }

    /// What is wrong with a field.
    fn error_in(&self, field: &Field) -> Option<&str> {
        self.wrong.params.iter().filter(|_| !self.as_json).find_map(|error| field.error_in(error))
    }

    fn whole(&self) -> Markup {
        let example: Map<String, Value> = self.fields.iter().filter_map(Field::example).collect();
        let example = serde_json::to_string_pretty(&example).unwrap_or_default();
        html! {
            div.field {
                label for=(WHOLE) { "Params " span.soft { "a JSON object" } }
                textarea #(WHOLE) name=(WHOLE) rows="12" spellcheck="false" required {
                    // The parser of HTML drops a line break that comes first.
                    "\n" (self.value(WHOLE, &example))
                }
            }
        }
    }

    fn field(&self, field: &Field) -> Markup {
        let id = field.id();
        let error = self.error_in(field);
        let hint = format!("{id}.hint");
        html! {
            div.field {
                label for=(id) {
                    (field.name) " "
                    span.soft { @if field.is_required { "required" } @if field.kind == Kind::Json { " JSON" } }
                }
                (self.input(field, &id, error.is_some().then_some("true"), &hint))
                div id=(hint) {
                    @if let Some(error) = error { p.bad-text role="alert" { (error) } }
                    @if let Some(description) = &field.description { p.soft { (description) } }
                }
            }
        }
    }

    fn input(&self, field: &Field, id: &str, invalid: Option<&str>, hint: &str) -> Markup {
        let value = self.value(id, &field.default);
        let required = field.is_required;
        let mode = (field.kind == Kind::Number).then_some("decimal");
        html! {
            @match &field.kind {
                Kind::Choice(values) => {
                    select id=(id) name=(id) required[required] aria-invalid=[invalid] aria-describedby=(hint) {
                        option value="" { "–" }
                        @for it in values {
                            @let json = it.to_string();
                            option value=(json) selected[json == value] { (it.as_str().unwrap_or(&json)) }
                        }
                    }
                }
                Kind::Json => {
                    textarea id=(id) name=(id) rows="4" spellcheck="false" required[required] aria-invalid=[invalid]
                        aria-describedby=(hint) { "\n" (value) }
                }
                Kind::Line | Kind::Number => {
                    input id=(id) name=(id) value=(value) inputmode=[mode] autocomplete="off" required[required]
                        aria-invalid=[invalid] aria-describedby=(hint);
                }
            }
        }
    }
}
