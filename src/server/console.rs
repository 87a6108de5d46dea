//! Web page of the embedded TaskManager: tasks, types and workers, and two actions: create a task and retry a failed one.
//!
//! It uses the same queue as the API, with the same rules, but no injected faults.

mod fields;
mod form;
mod overview;
mod session;
mod tasks;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Form as Posted, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use maud::{Markup, html};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::access::{Access, KeyRejected};
use super::body;
use super::committer::{self, Committer};
use super::envelope::CallError;
use super::error::Refusal;
use super::memory_budget::TOO_MANY_LARGE_ANSWERS;
use super::queue::{SharedQueue, TaskToCreate};
use super::storage::{Cursor, Filter, STATUSES, Time};
use crate::http::ConnectionHandle;
use crate::http::page::{Page, short_duration};
use fields::FormInput;
use form::{Form, FormErrors};
use session::Sessions;

/// Number of tasks on a page.
const PAGE: u16 = 50;

/// Maximum size of the sign-in form, in bytes.
const MAX_SIGN_IN: usize = 4096;

/// Logs an action on the page with the client's address.
fn log_action(connection: &ConnectionHandle, task_id: Option<i64>, what: &str) {
    let address = connection.address().ip().to_canonical().to_string();
    ::log::info!(address = address.as_str(), task_id; "{what}");
}

/// State of the page.
struct Console {
    queue: SharedQueue,
    access: Arc<Access>,
    sessions: Sessions,
}

/// The page, for a server that listens on `port`. What its forms change is committed by `committer`.
pub(super) fn router(queue: SharedQueue, committer: Arc<Committer>, access: Arc<Access>, port: u16) -> Router {
    let console = Arc::new(Console { queue, access, sessions: Sessions::new(port) });
    Router::new()
        .route("/", get(show_overview))
        .route("/tasks", get(list_tasks))
        .route("/tasks/{id}", get(show_task))
        .route("/tasks/{id}/put-back", post(retry))
        .route(
            "/new",
            get(show_form).post(create).layer(middleware::from_fn_with_state(Arc::clone(&console), read_and_run)),
        )
        .route("/sign-in", post(sign_in).layer(DefaultBodyLimit::max(MAX_SIGN_IN)))
        .route("/sign-out", post(sign_out))
        .fallback(not_found)
        .method_not_allowed_fallback(not_found)
        .layer(middleware::from_fn_with_state(committer, sync_changes))
        .layer(middleware::from_fn_with_state(Arc::clone(&console), session::guard))
        .with_state(console)
}

impl Console {
    fn show(&self, title: &str, main: Markup) -> Response {
        self.page(title, main, true).answer(StatusCode::OK)
    }

    /// Creates a page with the navigation.
    fn page(&self, title: &str, main: Markup, is_live: bool) -> Page {
        let header = html! {
            strong { "prismq serve" }
            nav {
                a href="/" { "Overview" }
                a href=(list_link(Some("pending"), None, None)) { "Tasks" }
                a href="/new" { "New task" }
            }
            @if self.access.needs_key() {
                form method="post" action="/sign-out" { button.link { "Sign out" } }
            }
        };
        Page { title: format!("{title} · prismq serve"), header, main, is_live }
    }

    /// The form for a task of that type, with what was typed and why that was refused.
    async fn form(
        &self,
        task_type: &str,
        as_json: bool,
        input: &FormInput,
        errors: &FormErrors,
    ) -> Result<Response, Refusal> {
        let schema = self.queue.lock().await.schema(task_type)?;
        let fields = fields::of(&schema);
        let as_json = as_json || fields.is_empty();
        let form = Form { task_type, schema: &schema, fields: &fields, as_json, input, errors };
        let status = if errors.is_empty() { StatusCode::OK } else { StatusCode::BAD_REQUEST };
        Ok(self.page("New task", form.main(), false).answer(status))
    }
}

/// Renders an error page.
fn error_page(status: StatusCode, why: &str) -> Response {
    let header = html! { strong { "prismq serve" } nav { a href="/" { "Overview" } } };
    let main = html! { h1 { (status.canonical_reason().unwrap_or("Trouble")) } p { (why) } };
    Page { title: "prismq serve".to_owned(), header, main, is_live: false }.answer(status)
}

struct PageError(CallError);

impl<T: Into<CallError>> From<T> for PageError {
    fn from(failure: T) -> Self {
        Self(failure.into())
    }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let CallError { status, error, details } = self.0;
        let said: Vec<_> = [error].into_iter().chain(details).collect();
        error_page(status, &said.join(": "))
    }
}

type PageResult = Result<Response, PageError>;

/// Has what a form has changed on disk before the browser is told so.
async fn sync_changes(committer: State<Arc<Committer>>, request: Request, next: Next) -> PageResult {
    Ok(committer::sync_changes(committer, request, next).await?)
}

/// Reads a long form in another thread.
async fn read_and_run(State(console): State<Arc<Console>>, request: Request, next: Next) -> PageResult {
    Ok(body::read_and_run(&console.queue, request, next).await?)
}

/// Renders the page for a lack of memory.
pub(super) fn overloaded() -> Response {
    error_page(StatusCode::SERVICE_UNAVAILABLE, TOO_MANY_LARGE_ANSWERS)
}

async fn not_found() -> Response {
    error_page(StatusCode::NOT_FOUND, "Page not found.")
}

async fn show_overview(State(console): State<Arc<Console>>) -> PageResult {
    let overview = console.queue.lock().await.overview()?;
    Ok(console.show("Overview", overview::main(&overview)))
}

async fn list_tasks(State(console): State<Arc<Console>>, Query(query): Query<FormInput>) -> PageResult {
    let status = match query.get("status") {
        None => None,
        Some(wanted) => match STATUSES.into_iter().find(|status| status == wanted) {
            Some(status) => Some(status),
            None => return Ok(invalid_status(wanted)),
        },
    };
    let task_type = query.get("type").map(String::as_str);
    let cursor = cursor(&query);
    let limit = i64::from(PAGE) + 1;
    let filter = Filter {
        status,
        task_type: task_type.map(escape_like),
        cursor: cursor.unwrap_or(Cursor::NEWEST),
        limit,
        offset: 0,
    };
    let (mut tasks, types) = {
        let mut queue = console.queue.lock().await;
        (queue.listed(&filter)?, queue.counts()?)
    };
    // One more task than shown was requested, to know whether there are more.
    let more = tasks.len() > usize::from(PAGE);
    let after = matches!(cursor, Some(Cursor::After(_)));
    if more {
        tasks.remove(if after { 0 } else { tasks.len() - 1 });
    }
    let newer =
        tasks.first().filter(|_| if after { more } else { cursor.is_some() }).map(|it| Cursor::After(it.task.id));
    let older = tasks.last().filter(|_| after || more).map(|it| Cursor::Before(it.task.id));
    let mut counts = [0; STATUSES.len()];
    for it in types.iter().filter(|it| task_type.is_none_or(|name| name == it.name)) {
        counts.iter_mut().zip(it.counts).for_each(|(sum, count)| *sum += count);
    }
    let list = tasks::List { status, task_type, counts, tasks: &tasks, newer, older };
    Ok(console.show(status.unwrap_or("all tasks"), tasks::list(&list)))
}

fn invalid_status(wanted: &str) -> Response {
    error_page(
        StatusCode::BAD_REQUEST,
        &format!("{wanted:?} is not a task status; use one of {}.", STATUSES.join(", ")),
    )
}

/// Returns where a page starts, if it is not the first.
fn cursor(query: &FormInput) -> Option<Cursor> {
    let id = |name| query.get(name).and_then(|id| id.parse().ok());
    id("after").map(Cursor::After).or_else(|| id("before").map(Cursor::Before))
}

/// Returns the LIKE pattern that matches only `name`.
fn escape_like(name: &str) -> String {
    name.replace('\\', r"\\").replace('%', r"\%").replace('_', r"\_")
}

type TaskId = Result<Path<i64>, PathRejection>;

async fn show_task(State(console): State<Arc<Console>>, id: TaskId, Query(query): Query<FormInput>) -> PageResult {
    let Path(id) = id.map_err(|_| Refusal::TaskNotFound)?;
    let shown = console.queue.with_tasks(&[id], move |queue| queue.shown(id)).await?;
    let note = match query.get("is").map(String::as_str) {
        Some("new") => Some("Created."),
        Some("old") => Some("Not created: this task already exists with the same params."),
        Some("back") => Some("Queued for retry."),
        _ => None,
    };
    Ok(console.show(&format!("Task {id}"), tasks::task(&shown, note)))
}

async fn retry(
    State(console): State<Arc<Console>>,
    connection: ConnectInfo<ConnectionHandle>,
    id: TaskId,
) -> PageResult {
    let Path(id) = id.map_err(|_| Refusal::TaskNotFound)?;
    console.queue.with_tasks(&[id], move |queue| queue.retry(id)).await?;
    log_action(&connection, Some(id), "task retried on the page");
    Ok(redirect(&format!("/tasks/{id}?is=back")))
}

async fn show_form(State(console): State<Arc<Console>>, Query(query): Query<FormInput>) -> PageResult {
    let Some(task_type) = query.get("type") else {
        let types = console.queue.lock().await.counts()?;
        return Ok(console.page("New task", form::choice(&types), false).answer(StatusCode::OK));
    };
    let as_json = query.get("as").is_some_and(|kind| kind == "json");
    Ok(console.form(task_type, as_json, &FormInput::new(), &FormErrors::default()).await?)
}

async fn create(
    State(console): State<Arc<Console>>,
    connection: ConnectInfo<ConnectionHandle>,
    Posted(input): Posted<FormInput>,
) -> PageResult {
    let task_type = input.get("type").ok_or(Refusal::TypeNotFound)?;
    let schema = console.queue.lock().await.schema(task_type)?;
    let (params, errors) = fields::params(&fields::of(&schema), &input);
    let priority = fields::priority(&input);
    let mut errors = FormErrors { params: errors, priority: priority.is_none() };
    if let Some(params) = &params {
        errors.params.extend(console.queue.faults(task_type, params).await?);
    }
    let (Some(params), Some(priority), true) = (params, priority, errors.is_empty()) else {
        return Ok(console.form(task_type, input.contains_key(fields::JSON_FIELD), &input, &errors).await?);
    };
    let created = console.queue.create(TaskToCreate { task_type: task_type.clone(), params, priority }).await?;
    let how = if created.deduplicated { "old" } else { "new" };
    if !created.deduplicated {
        log_action(&connection, Some(created.id), "task created on the page");
    }
    Ok(redirect(&format!("/tasks/{}?is={how}", created.id)))
}

async fn sign_in(
    State(console): State<Arc<Console>>,
    connection: ConnectInfo<ConnectionHandle>,
    headers: HeaderMap,
    Posted(input): Posted<FormInput>,
) -> PageResult {
    let next = input.get("next").filter(|next| is_path(next)).map_or("/", String::as_str);
    if !console.access.needs_key() {
        return Ok(redirect(next));
    }
    let key = input.get("key").map_or("", |key| key.trim());
    match console.access.check_key(key.as_bytes(), &connection).await {
        Ok(()) => {}
        Err(KeyRejected::Wrong) => return Ok(sign_in_page(next, true)),
        Err(KeyRejected::TooMany(wait)) => {
            let seconds = wait.as_millis().div_ceil(1000);
            let why = format!("Too many wrong keys from your address. Try again in {seconds} s.");
            return Ok(error_page(StatusCode::TOO_MANY_REQUESTS, &why));
        }
    }
    log_action(&connection, None, "signed in on the page");
    let cookie = console.sessions.sign_in(&headers).map_err(|error| CallError::internal(&error))?;
    Ok(([(header::SET_COOKIE, cookie)], redirect(next)).into_response())
}

async fn sign_out(State(console): State<Arc<Console>>, headers: HeaderMap) -> Response {
    ([(header::SET_COOKIE, console.sessions.sign_out(&headers))], redirect("/")).into_response()
}

/// Renders the sign-in form, which leads to `next`.
fn sign_in_page(next: &str, is_wrong: bool) -> Response {
    let main = html! {
        h1 { "Sign in" }
        @if is_wrong { p.trouble role="alert" { "Wrong key." } }
        section {
            form method="post" action="/sign-in" {
                input type="hidden" name="next" value=(next);
                div.field {
                    label for="key" { "API key" }
                    input #key name="key" type="password" autocomplete="current-password" required autofocus
                        aria-describedby="whose";
                    p.soft #whose { "The TASKMANAGER_API_KEY that this TaskManager was started with." }
                }
                button { "Sign in" }
            }
        }
    };
    let header = html! { strong { "prismq serve" } };
    Page { title: "Sign in · prismq serve".to_owned(), header, main, is_live: false }.answer(StatusCode::UNAUTHORIZED)
}

/// Whether `next` is a path on this server. Two slashes would lead to another host.
fn is_path(next: &str) -> bool {
    next.starts_with('/') && !next.starts_with("//") && !next.contains('\\') && !next.contains(char::is_control)
}

/// Redirects the browser.
fn redirect(path: &str) -> Response {
    (StatusCode::SEE_OTHER, [(header::LOCATION, path)]).into_response()
}

fn list_link(status: Option<&str>, task_type: Option<&str>, cursor: Option<Cursor>) -> String {
    let status = status.map(|status| format!("status={status}"));
    let task_type = task_type.map(|name| format!("type={}", percent(name)));
    let cursor = cursor.map(|cursor| match cursor {
        Cursor::Before(id) => format!("before={id}"),
        Cursor::After(id) => format!("after={id}"),
    });
    let query: Vec<_> = [status, task_type, cursor].into_iter().flatten().collect();
    if query.is_empty() { "/tasks".to_owned() } else { format!("/tasks?{}", query.join("&")) }
}

fn new_link(task_type: &str) -> String {
    format!("/new?type={}", percent(task_type))
}

/// Renders a relative time, with the exact one as a tooltip.
fn ago(time: Time) -> Markup {
    let exact = time.to_string();
    html! {
        time datetime=(format!("{}Z", exact.replace(' ', "T"))) title=(format!("{exact} UTC")) {
            (short_duration(Duration::from_secs(Time::now().since(time).as_secs()))) " ago"
        }
    }
}

fn task_link(id: i64) -> Markup {
    html! { a href=(format!("/tasks/{id}")) { (id) } }
}

fn percent(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}
