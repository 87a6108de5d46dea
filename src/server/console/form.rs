//! The form that creates a task.

use maud::{Markup, html};
use serde_json::{Map, Value};

use super::fields::{Field, FormInput, InputKind, JSON_FIELD};
use super::new_link;
use crate::server::storage::TypeCounts;

/// The form with its input.
pub(super) struct Form<'a> {
    pub(super) task_type: &'a str,
    pub(super) schema: &'a Value,
    pub(super) fields: &'a [Field],
    /// Whether to edit the params as JSON.
    pub(super) as_json: bool,
    /// The previous input.
    pub(super) input: &'a FormInput,
    /// Errors in the previous input.
    pub(super) errors: &'a FormErrors,
}

/// Errors in the input.
#[derive(Default)]
pub(super) struct FormErrors {
    /// Schema errors.
    pub(super) params: Vec<String>,
    pub(super) priority: bool,
}

impl FormErrors {
    pub(super) fn is_empty(&self) -> bool {
        self.params.is_empty() && !self.priority
    }
}

/// Renders the list of types to choose from.
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
            @if !self.errors.is_empty() { p.trouble role="alert" { "Not created: " (self.error_page()) "." } }
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

    /// Returns the errors that belong to no field, and the number of marked fields.
    fn error_page(&self) -> String {
        let marked = self.fields.iter().filter(|field| self.error_in(field).is_some()).count();
        let marked = marked + usize::from(self.errors.priority);
        let has_field = |error: &&String| !self.as_json && self.fields.iter().any(|it| it.error_in(error).is_some());
        let mut said: Vec<String> = self.errors.params.iter().filter(|error| !has_field(error)).cloned().collect();
        match marked {
            0 => {}
            1 => said.push("see the marked field".to_owned()),
            _ => said.push(format!("see the {marked} marked fields")),
        }
        said.join("; ")
    }

    fn inputs(&self) -> Markup {
        let invalid = self.errors.priority.then_some("true");
        html! {
            form method="post" action="/new" {
                input type="hidden" name="type" value=(self.task_type);
                @if self.as_json { (self.whole()) } @else { @for field in self.fields { (self.field(field)) } }
                div.field {
                    label for="priority" { "Priority" }
                    input #priority name="priority" inputmode="numeric" autocomplete="off"
                        value=(self.value("priority", "0")) aria-invalid=[invalid] aria-describedby="priority-hint";
                    div #priority-hint {
                        @if self.errors.priority { p.bad-text role="alert" { "Not a whole number." } }
                    }
                }
                button { "Create task" }
            }
        }
    }

    /// Returns the input of a field, or its default.
    fn value<'a>(&'a self, id: &str, default: &'a str) -> &'a str {
        self.input.get(id).map_or(default, String::as_str)
    }

    /// Returns the error of a field.
    fn error_in(&self, field: &Field) -> Option<&str> {
        self.errors.params.iter().filter(|_| !self.as_json).find_map(|error| field.error_in(error))
    }

    fn whole(&self) -> Markup {
        let example: Map<String, Value> = self.fields.iter().filter_map(Field::example).collect();
        let example = serde_json::to_string_pretty(&example).unwrap_or_default();
        html! {
            div.field {
                label for=(JSON_FIELD) { "Params " span.soft { "a JSON object" } }
                textarea #(JSON_FIELD) name=(JSON_FIELD) rows="12" spellcheck="false" required {
                    // HTML parsers drop the first line break.
                    "\n" (self.value(JSON_FIELD, &example))
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
                    span.soft { @if field.is_required { "required" } @if field.kind == InputKind::Json { " JSON" } }
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
        let mode = (field.kind == InputKind::Number).then_some("decimal");
        html! {
            @match &field.kind {
                InputKind::Choice(values) => {
                    select id=(id) name=(id) required[required] aria-invalid=[invalid] aria-describedby=(hint) {
                        option value="" { "–" }
                        @for it in values {
                            @let json = it.to_string();
                            option value=(json) selected[json == value] { (it.as_str().unwrap_or(&json)) }
                        }
                    }
                }
                InputKind::Json => {
                    textarea id=(id) name=(id) rows="4" spellcheck="false" required[required] aria-invalid=[invalid]
                        aria-describedby=(hint) { "\n" (value) }
                }
                InputKind::Line | InputKind::Number => {
                    input id=(id) name=(id) value=(value) inputmode=[mode] autocomplete="off" required[required]
                        aria-invalid=[invalid] aria-describedby=(hint);
                }
            }
        }
    }
}
