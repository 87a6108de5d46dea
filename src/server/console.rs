//! The page of the embedded TaskManager: what it holds, who works it, and two things to do by hand: create a task and
//! put a failed one back.
//!
//! It asks the same queue as the API, under the same rules. Faults that are made on purpose spare it.

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

use super::access::{Access, Rejected};
use super::body;
use super::committer::{self, Committer};
use super::envelope::Failure;
use super::error::Refusal;
use super::queue::Shared;
use super::room::TOO_MANY_ANSWERS;
use super::storage::{Filter, STATUSES, Side, Time};
use crate::http::ConnectionHandle;
use crate::http::page::{Page, span};
use fields::Typed;
use form::{Form, Wrong};
use session::Sessions;

/// Tasks on one page of a list.
const PAGE: u16 = 50;

/// The longest form that is read of who has not signed in, in bytes.
const MAX_SIGN_IN: usize = 4096;

/// Logs what somebody has done on the page, and from where.
fn log_by_hand(connection: &ConnectionHandle, task_id: Option<i64>, what: &str) {
    let address = connection.address().ip().to_canonical().to_string();
    ::log::info!(address = address.as_str(), task_id; "{what}");
}

/// What the page works with.
struct Console {
    queue: Shared,
    access: Arc<Access>,
    sessions: Sessions,
}

/// The page, for a server that listens on `port`. What its forms change is committed by `committer`.
pub(super) fn router(queue: Shared, committer: Arc<Committer>, access: Arc<Access>, port: u16) -> Router {
    let console = Arc::new(Console { queue, access, sessions: Sessions::new(port) });
    Router::new()
        .route("/", get(show_overview))
        .route("/tasks", get(list_tasks))
        .route("/tasks/{id}", get(show_task))
        .route("/tasks/{id}/put-back", post(put_back))
        .route("/new", get(show_form).post(create).layer(middleware::from_fn_with_state(Arc::clone(&console), work_on)))
        .route("/sign-in", post(sign_in).layer(DefaultBodyLimit::max(MAX_SIGN_IN)))
        .route("/sign-out", post(sign_out))
        .fallback(no_page)
        .method_not_allowed_fallback(no_page)
        .layer(middleware::from_fn_with_state(committer, sync_changes))
        .layer(middleware::from_fn_with_state(Arc::clone(&console), session::guard))
        .with_state(console)
}

impl Console {
    fn show(&self, title: &str, main: Markup) -> Response {
        self.page(title, main, true).answer(StatusCode::OK)
    }

    /// A page with the ways to the others.
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
    async fn form(&self, task_type: &str, as_json: bool, typed: &Typed, wrong: &Wrong) -> Result<Response, Refusal> {
        let schema = self.queue.lock().await.schema(task_type)?;
        let fields = fields::of(&schema);
        let as_json = as_json || fields.is_empty();
        let form = Form { task_type, schema: &schema, fields: &fields, as_json, typed, wrong };
        let status = if wrong.is_nothing() { StatusCode::OK } else { StatusCode::BAD_REQUEST };
        Ok(self.page("New task", form.main(), false).answer(status))
    }
}

/// What is said where a page cannot be shown.
fn trouble(status: StatusCode, why: &str) -> Response {
    let header = html! { strong { "prismq serve" } nav { a href="/" { "Overview" } } };
    let main = html! { h1 { (status.canonical_reason().unwrap_or("Trouble")) } p { (why) } };
    Page { title: "prismq serve".to_owned(), header, main, is_live: false }.answer(status)
}

struct Trouble(Failure);

impl<T: Into<Failure>> From<T> for Trouble {
    fn from(failure: T) -> Self {
        Self(failure.into())
    }
}

impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        let Failure { status, error, details } = self.0;
        let said: Vec<_> = [error].into_iter().chain(details).collect();
        trouble(status, &said.join(": "))
    }
}

type Answer = Result<Response, Trouble>;

/// Has what a form has changed on disk before the browser is told so.
async fn sync_changes(committer: State<Arc<Committer>>, request: Request, next: Next) -> Answer {
    Ok(committer::sync_changes(committer, request, next).await?)
}

/// Has a long form read beside the thread that serves.
async fn work_on(State(console): State<Arc<Console>>, request: Request, next: Next) -> Answer {
    Ok(body::work_on(&console.queue, request, next).await?)
}

/// What is said where there is no room for a page.
pub(super) fn no_room() -> Response {
    trouble(StatusCode::SERVICE_UNAVAILABLE, TOO_MANY_ANSWERS)
}

async fn no_page() -> Response {
    trouble(StatusCode::NOT_FOUND, "Page not found.")
}

async fn show_overview(State(console): State<Arc<Console>>) -> Answer {
    let overview = console.queue.lock().await.overview()?;
    Ok(console.show("Overview", overview::main(&overview)))
}

async fn list_tasks(State(console): State<Arc<Console>>, Query(query): Query<Typed>) -> Answer {
    let status = match query.get("status") {
        None => None,
        Some(wanted) => match STATUSES.into_iter().find(|status| status == wanted) {
            Some(status) => Some(status),
            None => return Ok(no_status(wanted)),
        },
    };
    let task_type = query.get("type").map(String::as_str);
    let side = side(&query);
    let limit = i64::from(PAGE) + 1;
    let filter =
        Filter { status, task_type: task_type.map(exactly), side: side.unwrap_or(Side::NEWEST), limit, offset: 0 };
    let (mut tasks, types) = {
        let mut queue = console.queue.lock().await;
        (queue.listed(&filter)?, queue.counts()?)
    };
    // One more than is shown tells that there are more on that side.
    let more = tasks.len() > usize::from(PAGE);
    let after = matches!(side, Some(Side::After(_)));
    if more {
        tasks.remove(if after { 0 } else { tasks.len() - 1 });
    }
    let newer = tasks.first().filter(|_| if after { more } else { side.is_some() }).map(|it| Side::After(it.task.id));
    let older = tasks.last().filter(|_| after || more).map(|it| Side::Before(it.task.id));
    let mut counts = [0; STATUSES.len()];
    for it in types.iter().filter(|it| task_type.is_none_or(|name| name == it.name)) {
        counts.iter_mut().zip(it.counts).for_each(|(sum, count)| *sum += count);
    }
    let list = tasks::List { status, task_type, counts, tasks: &tasks, newer, older };
    Ok(console.show(status.unwrap_or("all tasks"), tasks::list(&list)))
}

fn no_status(wanted: &str) -> Response {
    trouble(StatusCode::BAD_REQUEST, &format!("{wanted:?} is not a task status; use one of {}.", STATUSES.join(", ")))
}

/// Where a list goes on, if it does not begin with the newest.
fn side(query: &Typed) -> Option<Side> {
    let id = |name| query.get(name).and_then(|id| id.parse().ok());
    id("after").map(Side::After).or_else(|| id("before").map(Side::Before))
}

/// The LIKE pattern of this very name.
fn exactly(name: &str) -> String {
    name.replace('\\', r"\\").replace('%', r"\%").replace('_', r"\_")
}

type TaskId = Result<Path<i64>, PathRejection>;

async fn show_task(State(console): State<Arc<Console>>, id: TaskId, Query(query): Query<Typed>) -> Answer {
    let Path(id) = id.map_err(|_| Refusal::TaskNotFound)?;
    let shown = console.queue.with_task(id, move |queue| queue.shown(id)).await?;
    let note = match query.get("is").map(String::as_str) {
        Some("new") => Some("Created."),
        Some("old") => Some("Not created: this task already exists with the same params."),
        Some("back") => Some("Queued for retry."),
        _ => None,
    };
    Ok(console.show(&format!("Task {id}"), tasks::task(&shown, note)))
}

async fn put_back(
    State(console): State<Arc<Console>>,
    connection: ConnectInfo<ConnectionHandle>,
    id: TaskId,
) -> Answer {
    let Path(id) = id.map_err(|_| Refusal::TaskNotFound)?;
    console.queue.with_task(id, move |queue| queue.put_back(id)).await?;
    log_by_hand(&connection, Some(id), "task retried on the page");
    Ok(see(&format!("/tasks/{id}?is=back")))
}

async fn show_form(State(console): State<Arc<Console>>, Query(query): Query<Typed>) -> Answer {
    let Some(task_type) = query.get("type") else {
        let types = console.queue.lock().await.counts()?;
        return Ok(console.page("New task", form::choice(&types), false).answer(StatusCode::OK));
    };
    let as_json = query.get("as").is_some_and(|kind| kind == "json");
    Ok(console.form(task_type, as_json, &Typed::new(), &Wrong::default()).await?)
}

async fn create(
    State(console): State<Arc<Console>>,
    connection: ConnectInfo<ConnectionHandle>,
    Posted(typed): Posted<Typed>,
) -> Answer {
    let task_type = typed.get("type").ok_or(Refusal::TypeNotFound)?;
    let schema = console.queue.lock().await.schema(task_type)?;
    let (params, wrong) = fields::params(&fields::of(&schema), &typed);
    let priority = fields::priority(&typed);
    let mut wrong = Wrong { params: wrong, priority: priority.is_none() };
    if let Some(params) = &params {
        wrong.params.extend(console.queue.faults(task_type, params).await?);
    }
    let (Some(params), Some(priority), true) = (params, priority, wrong.is_nothing()) else {
        return Ok(console.form(task_type, typed.contains_key(fields::WHOLE), &typed, &wrong).await?);
    };
    let created = console.queue.create(task_type.clone(), params, priority).await?;
    let how = if created.deduplicated { "old" } else { "new" };
    if !created.deduplicated {
        log_by_hand(&connection, Some(created.id), "task created on the page");
    }
    Ok(see(&format!("/tasks/{}?is={how}", created.id)))
}

async fn sign_in(
    State(console): State<Arc<Console>>,
    connection: ConnectInfo<ConnectionHandle>,
    headers: HeaderMap,
    Posted(typed): Posted<Typed>,
) -> Answer {
    let next = typed.get("next").filter(|next| is_path(next)).map_or("/", String::as_str);
    if !console.access.needs_key() {
        return Ok(see(next));
    }
    let key = typed.get("key").map_or("", |key| key.trim());
    match console.access.show_key(key.as_bytes(), &connection).await {
        Ok(()) => {}
        Err(Rejected::Wrong) => return Ok(sign_in_page(next, true)),
        Err(Rejected::TooMany(wait)) => {
            let seconds = wait.as_millis().div_ceil(1000);
            let why = format!("Too many wrong keys from your address. Try again in {seconds} s.");
            return Ok(trouble(StatusCode::TOO_MANY_REQUESTS, &why));
        }
    }
    log_by_hand(&connection, None, "signed in on the page");
    let cookie = console.sessions.begin(&headers).map_err(|error| Failure::internal(&error))?;
    Ok(([(header::SET_COOKIE, cookie)], see(next)).into_response())
}

async fn sign_out(State(console): State<Arc<Console>>, headers: HeaderMap) -> Response {
    ([(header::SET_COOKIE, console.sessions.end(&headers))], see("/")).into_response()
}

/// Where the key is asked for, on the way to `next`.
fn sign_in_page(next: &str, was_wrong: bool) -> Response {
    let main = html! {
        h1 { "Sign in" }
        @if was_wrong { p.trouble role="alert" { "Wrong key." } }
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

/// Whether this leads to a page here: what starts with two slashes leads to another host.
fn is_path(next: &str) -> bool {
    next.starts_with('/') && !next.starts_with("//") && !next.contains('\\') && !next.contains(char::is_control)
}

/// Has the browser ask for another page.
fn see(path: &str) -> Response {
    (StatusCode::SEE_OTHER, [(header::LOCATION, path)]).into_response()
}

fn list_link(status: Option<&str>, task_type: Option<&str>, side: Option<Side>) -> String {
    let status = status.map(|status| format!("status={status}"));
    let task_type = task_type.map(|name| format!("type={}", percent(name)));
    let side = side.map(|side| match side {
        Side::Before(id) => format!("before={id}"),
        Side::After(id) => format!("after={id}"),
    });
    let query: Vec<_> = [status, task_type, side].into_iter().flatten().collect();
    if query.is_empty() { "/tasks".to_owned() } else { format!("/tasks?{}", query.join("&")) }
}

fn new_link(task_type: &str) -> String {
    format!("/new?type={}", percent(task_type))
}

/// A time as people say it, and exactly for who points at it.
fn ago(time: Time) -> Markup {
    let exact = time.to_string();
    html! {
        time datetime=(format!("{}Z", exact.replace(' ', "T"))) title=(format!("{exact} UTC")) {
            (span(Duration::from_secs(Time::now().since(time).as_secs()))) " ago"
        }
    }
}

fn task_link(id: i64) -> Markup {
    html! { a href=(format!("/tasks/{id}")) { (id) } }
}

fn percent(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}
