//! What Grafana answers: a function of the request and of what it knows. No I/O.
//!
//! `observed` stands at rules that were recorded from Grafana 7.5.5; the others are its documentation's.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::{Value, json};

/// Failures of a user until the right password is refused too (observed: 5 within 5 minutes).
const LOCK_AFTER: usize = 5;
const LOCK_FOR: Duration = Duration::from_mins(5);
const LONGEST_UID: usize = 40;

/// Which Grafana it behaves like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 7.5.5, as observed.
    Old,
    /// 12, as documented: folders by uid, changes of data sources by uid, their health, alert rules.
    Modern,
}

/// One call.
#[derive(Clone, Debug)]
pub struct Request {
    /// HTTP method.
    pub method: String,
    /// Segments of the path.
    pub path: Vec<String>,
    /// Parameters.
    pub query: Vec<(String, String)>,
    /// Header `Authorization`.
    pub authorization: Option<String>,
    /// Header `X-Grafana-Org-Id`.
    pub organization: Option<String>,
    /// JSON.
    pub body: Option<Value>,
}

/// One answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// JSON.
    pub body: Value,
}

/// A folder.
#[derive(Clone, Debug)]
struct Folder {
    id: i64,
    uid: String,
    title: String,
    version: i64,
    /// Uid of the folder that it is in; only newer versions have folders in folders.
    parent: Option<String>,
}

/// A dashboard and its history.
#[derive(Clone, Debug)]
struct Stored {
    id: i64,
    model: Value,
    folder: i64,
    version: i64,
}

/// What the server knows.
#[derive(Debug)]
pub struct State {
    version: Version,
    accounts: BTreeMap<String, String>,
    tokens: Vec<String>,
    failures: BTreeMap<String, Vec<Instant>>,
    folders: Vec<Folder>,
    /// With their secrets.
    sources: Vec<Value>,
    dashboards: Vec<Stored>,
    rules: BTreeMap<String, Value>,
    next_id: i64,
    calls: u64,
    writes: u64,
    logins_refused: u64,
    fault: Option<u16>,
}

fn ok(body: Value) -> Answer {
    Answer { status: 200, body }
}

fn refuse(status: u16, message: &str) -> Answer {
    Answer { status, body: json!({"message": message}) }
}

fn refuse_with(status: u16, code: &str, message: &str) -> Answer {
    Answer { status, body: json!({"message": message, "status": code}) }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn slug(title: &str) -> String {
    let words = title.to_lowercase();
    words.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-")
}

impl State {
    /// A fresh server with one administrator and one service account.
    pub fn new(version: Version, admin: (&str, &str), token: &str) -> Self {
        Self {
            version,
            accounts: [(admin.0.to_owned(), admin.1.to_owned())].into(),
            tokens: vec![token.to_owned()],
            failures: BTreeMap::new(),
            folders: Vec::new(),
            sources: Vec::new(),
            dashboards: Vec::new(),
            rules: BTreeMap::new(),
            next_id: 1,
            calls: 0,
            writes: 0,
            logins_refused: 0,
            fault: None,
        }
    }

    /// All calls.
    pub fn calls(&self) -> u64 {
        self.calls
    }

    /// Calls that changed something.
    pub fn writes(&self) -> u64 {
        self.writes
    }

    /// Logins that were refused.
    pub fn logins_refused(&self) -> u64 {
        self.logins_refused
    }

    /// Answers every call with a status, or as usual again.
    pub fn set_fault(&mut self, status: Option<u16>) {
        self.fault = status;
    }

    /// Changes a user's password.
    pub fn set_password(&mut self, user: &str, password: &str) {
        self.accounts.insert(user.to_owned(), password.to_owned());
    }

    /// Takes a token away and gives another.
    pub fn set_token(&mut self, token: &str) {
        self.tokens = vec![token.to_owned()];
    }

    /// The models of all dashboards by uid.
    pub fn dashboards(&self) -> BTreeMap<String, Value> {
        self.dashboards.iter().map(|stored| (text(&stored.model["uid"]), stored.model.clone())).collect()
    }

    /// Versions of all dashboards and data sources by uid.
    pub fn versions(&self) -> BTreeMap<String, i64> {
        let dashboards = self.dashboards.iter().map(|stored| (text(&stored.model["uid"]), stored.version));
        let sources =
            self.sources.iter().map(|source| (text(&source["uid"]), source["version"].as_i64().unwrap_or(0)));
        dashboards.chain(sources).collect()
    }

    /// The data sources with their secrets.
    pub fn sources(&self) -> &[Value] {
        &self.sources
    }

    /// Titles of the folders.
    pub fn folders(&self) -> Vec<String> {
        self.folders.iter().map(|folder| folder.title.clone()).collect()
    }

    /// Uids of the alert rules.
    pub fn rules(&self) -> Vec<String> {
        self.rules.keys().cloned().collect()
    }

    /// Everything that it would ever show to anybody, secrets apart.
    pub fn visible(&self) -> String {
        let sources: Vec<Value> = self.sources.iter().map(Self::shown).collect();
        let dashboards: Vec<&Value> = self.dashboards.iter().map(|stored| &stored.model).collect();
        json!([sources, dashboards, self.rules]).to_string()
    }

    /// Renames a folder as someone with a mouse can.
    pub fn rename_folder(&mut self, title: &str, other: &str) {
        if let Some(folder) = self.folders.iter_mut().find(|folder| folder.title == title) {
            other.clone_into(&mut folder.title);
            folder.version += 1;
        }
    }

    /// Changes an alert rule as someone without a mouse can: the page of a rule that came over the API is locked.
    pub fn edit_rule(&mut self, uid: &str, edit: impl FnOnce(&mut Value)) {
        if let Some(rule) = self.rules.get_mut(uid) {
            edit(rule);
        }
    }

    /// Removes a data source, as someone with a mouse can.
    pub fn remove_source(&mut self, uid: &str) {
        self.sources.retain(|source| source["uid"] != uid);
    }

    /// Removes a dashboard.
    pub fn remove_dashboard(&mut self, uid: &str) {
        self.dashboards.retain(|stored| stored.model["uid"] != uid);
    }

    /// Saves a dashboard as Grafana's page does after an edit (observed: keys that the page does not know go, a
    /// time stamp and defaults come).
    pub fn save_in_browser(&mut self, uid: &str, edit: impl FnOnce(&mut Value)) {
        let Some(stored) = self.dashboards.iter_mut().find(|stored| stored.model["uid"] == uid) else {
            return;
        };
        edit(&mut stored.model);
        if let Some(model) = stored.model.as_object_mut() {
            for unknown in ["tidemark", "weekStart", "preload", "fiscalYearStartMonth"] {
                model.remove(unknown);
            }
            model.insert("iteration".into(), json!(1_700_000_000_000_i64 + stored.version));
            model.insert("style".into(), json!("dark"));
        }
        for panel in stored.model["panels"].as_array_mut().into_iter().flatten() {
            panel["pluginVersion"] = json!("7.5.5");
        }
        stored.version += 1;
        stored.model["version"] = json!(stored.version);
    }

    /// Changes a data source as someone with a mouse can.
    pub fn edit_source(&mut self, uid: &str, edit: impl FnOnce(&mut Value)) {
        if let Some(source) = self.sources.iter_mut().find(|source| source["uid"] == uid) {
            edit(source);
            source["version"] = json!(source["version"].as_i64().unwrap_or(0) + 1);
        }
    }

    /// Answers a call; with a data source, its health is asked of ClickHouse instead.
    pub fn answer(&mut self, request: &Request) -> (Answer, Option<Value>) {
        self.calls += 1;
        if let Some(status) = self.fault {
            return (refuse(status, "not now"), None);
        }
        let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
        if (request.method.as_str(), path.as_slice()) == ("GET", &["api", "health"]) {
            let version = if self.version == Version::Old { "7.5.5" } else { "12.4.0" };
            return (ok(json!({"commit": "stand-in", "database": "ok", "version": version})), None);
        }
        if let Err(answer) = self.login(request) {
            return (answer, None);
        }
        // Observed: the parameter moves the user to that organization for good.
        if request.query.iter().any(|(name, _)| name == "orgId") {
            return (Answer { status: 302, body: Value::Null }, None);
        }
        if let ("GET", ["api", "datasources", "uid", uid, "health"], Version::Modern) =
            (request.method.as_str(), path.as_slice(), self.version)
        {
            return match self.sources.iter().find(|source| source["uid"] == *uid) {
                Some(source) => (ok(Value::Null), Some(source.clone())),
                None => (refuse(404, "Data source not found"), None),
            };
        }
        let answer = self.route(request, &path);
        if request.method != "GET" && answer.status < 300 {
            self.writes += 1;
        }
        (answer, None)
    }

    fn login(&mut self, request: &Request) -> Result<(), Answer> {
        let header = request.authorization.as_deref().unwrap_or_default();
        if let Some(token) = header.strip_prefix("Bearer ") {
            if self.tokens.iter().any(|known| known == token) {
                return Ok(());
            }
            self.logins_refused += 1;
            return Err(refuse(401, "invalid API key"));
        }
        let Some(encoded) = header.strip_prefix("Basic ") else {
            return Err(refuse(401, "Unauthorized"));
        };
        let decoded = base64::engine::general_purpose::STANDARD.decode(encoded).unwrap_or_default();
        let decoded = String::from_utf8_lossy(&decoded).into_owned();
        let (user, password) = decoded.split_once(':').unwrap_or_default();
        let failures = self.failures.entry(user.to_owned()).or_default();
        failures.retain(|at| at.elapsed() < LOCK_FOR);
        // Observed: five failures refuse the right password too; tries while locked do not count.
        let locked = failures.len() >= LOCK_AFTER;
        if !locked && self.accounts.get(user).is_some_and(|known| known == password) {
            if request.organization.as_deref().is_some_and(|id| id.parse::<i64>().is_ok_and(|id| id != 1)) {
                return Err(refuse(404, "Organization not found"));
            }
            return Ok(());
        }
        if !locked {
            failures.push(Instant::now());
        }
        self.logins_refused += 1;
        Err(refuse(401, "invalid username or password"))
    }

    fn route(&mut self, request: &Request, path: &[&str]) -> Answer {
        let body = request.body.clone().unwrap_or_default();
        let parameter = |wanted: &str| {
            request
                .query
                .iter()
                .filter(|(name, _)| name == wanted)
                .map(|(_, value)| value.clone())
                .collect::<Vec<_>>()
        };
        match (request.method.as_str(), path) {
            ("GET", ["api", "folders"]) => self.folders_in(parameter("parentUid").first().cloned()),
            ("POST", ["api", "folders"]) => self.make_folder(&body),
            ("GET", ["api", "folders", uid]) => match self.folders.iter().find(|folder| folder.uid == *uid) {
                Some(folder) => ok(self.shown_folder(folder)),
                None => refuse_with(404, "not-found", "folder not found"),
            },
            ("PUT", ["api", "folders", uid]) => self.change_folder(uid, &body),
            ("DELETE", ["api", "folders", uid]) => self.delete_folder(uid),
            ("GET", ["api", "datasources", kind @ ("uid" | "name"), value]) => {
                match self.sources.iter().find(|source| source[*kind] == *value) {
                    Some(source) => ok(Self::shown(source)),
                    None => refuse(404, "Data source not found"),
                }
            }
            ("POST", ["api", "datasources"]) => self.make_source(&body),
            ("PUT", ["api", "datasources", "uid", uid]) if self.version == Version::Modern => {
                let found = self.sources.iter().position(|source| source["uid"] == *uid);
                self.change_source(found, &body)
            }
            ("PUT", ["api", "datasources", id]) => {
                let found =
                    self.sources.iter().position(|source| id.parse().is_ok_and(|id: i64| source["id"] == id));
                self.change_source(found, &body)
            }
            ("DELETE", ["api", "datasources", "uid", uid]) => {
                let before = self.sources.len();
                self.sources.retain(|source| source["uid"] != *uid);
                if self.sources.len() == before {
                    return refuse(404, "Data source not found");
                }
                ok(json!({"message": "Data source deleted"}))
            }
            ("GET", ["api", "dashboards", "uid", uid]) => self.dashboard(uid),
            ("POST", ["api", "dashboards", "db"]) => self.save(&body),
            ("DELETE", ["api", "dashboards", "uid", uid]) => {
                let Some(at) = self.dashboards.iter().position(|stored| stored.model["uid"] == *uid) else {
                    return refuse(404, "Dashboard not found");
                };
                let gone = self.dashboards.remove(at);
                ok(json!({"id": gone.id, "message": "Dashboard deleted", "title": gone.model["title"]}))
            }
            ("GET", ["api", "search"]) => self.search(&parameter),
            ("GET", ["api", "v1", "provisioning", "alert-rules"]) if self.version == Version::Modern => {
                ok(self.rules.values().cloned().collect())
            }
            ("GET", ["api", "v1", "provisioning", "alert-rules", uid]) if self.version == Version::Modern => {
                self.rules.get(*uid).map_or_else(|| refuse(404, "rule not found"), |rule| ok(rule.clone()))
            }
            ("POST", ["api", "v1", "provisioning", "alert-rules"]) if self.version == Version::Modern => {
                let uid = text(&body["uid"]);
                if self.rules.contains_key(&uid) {
                    return refuse(409, "a rule with this uid exists");
                }
                self.put_rule(uid, body)
            }
            ("PUT", ["api", "v1", "provisioning", "alert-rules", uid]) if self.version == Version::Modern => {
                if !self.rules.contains_key(*uid) {
                    return refuse(404, "rule not found");
                }
                self.put_rule((*uid).to_owned(), body)
            }
            ("DELETE", ["api", "v1", "provisioning", "alert-rules", uid])
                if self.version == Version::Modern =>
            {
                self.rules.remove(*uid);
                Answer { status: 204, body: Value::Null }
            }
            _ => refuse(404, "Not found"),
        }
    }

    fn id(&mut self) -> i64 {
        self.next_id += 1;
        self.next_id
    }

    fn put_rule(&mut self, uid: String, mut rule: Value) -> Answer {
        rule["provenance"] = json!("api");
        rule["orgID"] = json!(1);
        self.rules.insert(uid, rule.clone());
        Answer { status: 201, body: rule }
    }

    #[allow(clippy::unused_self, reason = "what a version shows of a folder belongs to the server")]
    fn shown_folder(&self, folder: &Folder) -> Value {
        json!({"id": folder.id, "uid": folder.uid, "title": folder.title, "version": folder.version,
               "url": format!("/dashboards/f/{}/{}", folder.uid, slug(&folder.title))})
    }

    /// The folders at the top, or those in another; an old server has none of these and ignores the parameter.
    fn folders_in(&self, parent: Option<String>) -> Answer {
        let parent = parent.filter(|_| self.version == Version::Modern);
        let inside = self.folders.iter().filter(|folder| folder.parent == parent);
        ok(inside.map(|folder| self.shown_folder(folder)).collect())
    }

    fn make_folder(&mut self, body: &Value) -> Answer {
        let (uid, title) = (text(&body["uid"]), text(&body["title"]));
        if title.is_empty() {
            return refuse(400, "folder title cannot be empty");
        }
        if uid.len() > LONGEST_UID {
            return refuse(400, "uid too long, max 40 characters");
        }
        // Observed: 412 for a known uid, 400 for a known title in any case.
        if self.folders.iter().any(|folder| folder.uid == uid) {
            return refuse_with(412, "version-mismatch", "the folder has been changed by someone else");
        }
        if self.folders.iter().any(|folder| folder.title.eq_ignore_ascii_case(&title)) {
            return refuse(
                400,
                "a folder or dashboard in the general folder with the same name already exists",
            );
        }
        let parent = body["parentUid"].as_str().map(str::to_owned);
        let parent = parent.filter(|_| self.version == Version::Modern);
        let folder = Folder { id: self.id(), uid, title, version: 1, parent };
        let shown = self.shown_folder(&folder);
        self.folders.push(folder);
        ok(shown)
    }

    fn change_folder(&mut self, uid: &str, body: &Value) -> Answer {
        let Some(folder) = self.folders.iter_mut().find(|folder| folder.uid == uid) else {
            return refuse_with(404, "not-found", "folder not found");
        };
        if body["overwrite"] != true && body["version"] != folder.version {
            return refuse_with(412, "version-mismatch", "the folder has been changed by someone else");
        }
        folder.title = text(&body["title"]);
        folder.version += 1;
        let folder = folder.clone();
        ok(self.shown_folder(&folder))
    }

    fn delete_folder(&mut self, uid: &str) -> Answer {
        let Some(at) = self.folders.iter().position(|folder| folder.uid == uid) else {
            return refuse_with(404, "not-found", "folder not found");
        };
        let folder = self.folders.remove(at);
        // Observed: what is inside goes with it.
        self.dashboards.retain(|stored| stored.folder != folder.id);
        let parent = Some(folder.uid);
        let inside: Vec<String> = (self.folders.iter().filter(|inner| inner.parent == parent))
            .map(|inner| inner.uid.clone())
            .collect();
        for inner in inside {
            self.delete_folder(&inner);
        }
        ok(json!({"message": "Folder deleted", "title": folder.title}))
    }

    /// A data source as it is shown: secrets by name alone.
    fn shown(source: &Value) -> Value {
        let mut shown = source.clone();
        let secrets = source["secureJsonData"].as_object().into_iter().flatten();
        shown["secureJsonFields"] = secrets.map(|(key, _)| (key.clone(), json!(true))).collect();
        if let Some(map) = shown.as_object_mut() {
            map.remove("secureJsonData");
        }
        shown
    }

    fn make_source(&mut self, body: &Value) -> Answer {
        for field in ["type", "access"] {
            if text(&body[field]).is_empty() {
                // Observed: a list, not an object.
                return Answer {
                    status: 422,
                    body: json!([{"fieldNames": [field], "classification": "RequiredError", "message": "Required"}]),
                };
            }
        }
        if self.sources.iter().any(|source| source["name"] == body["name"]) {
            return refuse(409, "data source with the same name already exists");
        }
        if self.sources.iter().any(|source| source["uid"] == body["uid"]) {
            return refuse(409, "data source with the same uid already exists");
        }
        let mut source = body.clone();
        source["id"] = json!(self.id());
        source["version"] = json!(1);
        source["readOnly"] = json!(false);
        source["orgId"] = json!(1);
        let shown = Self::shown(&source);
        self.sources.push(source);
        ok(
            json!({"datasource": shown, "id": shown["id"], "message": "Datasource added", "name": shown["name"]}),
        )
    }

    fn change_source(&mut self, found: Option<usize>, body: &Value) -> Answer {
        let Some(at) = found else { return refuse(404, "Data source not found") };
        let before = self.sources[at].clone();
        let stored = before["version"].as_i64().unwrap_or(0);
        // Observed: without a version no check and version 1; with one it has to be the stored one or later.
        let version = match body["version"].as_i64() {
            None => 1,
            Some(version) if version >= stored => version + 1,
            Some(_) => return refuse(409, "Datasource has already been updated by someone else."),
        };
        let taken = self.sources.iter().any(|other| {
            other["id"] != before["id"] && (other["name"] == body["name"] || other["uid"] == body["uid"])
        });
        if taken {
            return refuse(500, "Failed to update datasource");
        }
        // Observed: what is not sent becomes empty, but for the uid and the secrets.
        let mut source = body.clone();
        for key in ["id", "uid", "orgId", "readOnly"] {
            if key != "uid" || body["uid"].is_null() {
                source[key] = before[key].clone();
            }
        }
        source["version"] = json!(version);
        let mut secrets = before["secureJsonData"].as_object().cloned().unwrap_or_default();
        secrets.extend(body["secureJsonData"].as_object().cloned().unwrap_or_default());
        source["secureJsonData"] = Value::Object(secrets);
        let shown = Self::shown(&source);
        self.sources[at] = source;
        ok(
            json!({"datasource": shown, "id": shown["id"], "message": "Datasource updated", "name": shown["name"]}),
        )
    }

    fn dashboard(&self, uid: &str) -> Answer {
        let Some(stored) = self.dashboards.iter().find(|stored| stored.model["uid"] == uid) else {
            return refuse(404, "Dashboard not found");
        };
        let folder = self.folders.iter().find(|folder| folder.id == stored.folder);
        let mut meta = json!({
            "version": stored.version, "folderId": stored.folder,
            "folderTitle": folder.map_or("General", |folder| folder.title.as_str()), "provisioned": false,
        });
        if self.version == Version::Modern {
            meta["folderUid"] = json!(folder.map_or("", |folder| folder.uid.as_str()));
        }
        ok(json!({"dashboard": stored.model, "meta": meta}))
    }

    fn save(&mut self, body: &Value) -> Answer {
        let model = &body["dashboard"];
        let title = text(&model["title"]).trim().to_owned();
        let uid = text(&model["uid"]).trim().to_owned();
        let overwrite = body["overwrite"] == true;
        if title.is_empty() {
            return refuse(400, "Dashboard title cannot be empty");
        }
        if uid.len() > LONGEST_UID
            || uid.chars().any(|c| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_'))
        {
            return refuse(400, "uid contains illegal characters or is too long");
        }
        if !model["id"].is_null() && !self.dashboards.iter().any(|stored| json!(stored.id) == model["id"]) {
            return refuse_with(404, "not-found", "Dashboard not found");
        }
        // Observed: a save without a folder moves to General.
        let folder = match (body["folderId"].as_i64(), body["folderUid"].as_str(), self.version) {
            (_, Some(uid), Version::Modern) if !uid.is_empty() => {
                match self.folders.iter().find(|folder| folder.uid == uid) {
                    Some(folder) => folder.id,
                    None => return refuse(400, "folder not found"),
                }
            }
            (Some(id), _, _) if id > 0 => match self.folders.iter().find(|folder| folder.id == id) {
                Some(folder) => folder.id,
                None => return refuse_with(404, "not-found", "Folder not found"),
            },
            _ => 0,
        };
        if self.folders.iter().any(|folder| folder.title == title) {
            return refuse(400, "Dashboard name cannot be the same as folder");
        }
        // Observed: titles are compared by what they become in an address.
        let same_title = self.dashboards.iter().position(|stored| {
            stored.folder == folder
                && stored.model["uid"] != uid
                && slug(&text(&stored.model["title"])) == slug(&title)
        });
        let same_uid = self.dashboards.iter().position(|stored| stored.model["uid"] == uid);
        let at = match (same_title, same_uid) {
            (Some(_), _) if !overwrite => {
                let message = "A dashboard with the same name in the folder already exists";
                return refuse_with(412, "name-exists", message);
            }
            // Observed: with overwrite the other one is hit, and keeps its uid.
            (Some(other), _) => Some(other),
            (None, found) => found,
        };
        let Some(at) = at else {
            let id = self.id();
            let mut model = model.clone();
            model["id"] = json!(id);
            model["version"] = json!(1);
            model["title"] = json!(title);
            if uid.is_empty() {
                model["uid"] = json!(format!("g{id:08}"));
            }
            let uid = model["uid"].clone();
            self.dashboards.push(Stored { id, model, folder, version: 1 });
            return ok(
                json!({"id": id, "slug": slug(&title), "status": "success", "uid": uid, "version": 1}),
            );
        };
        let stored = &mut self.dashboards[at];
        if !overwrite && model["version"] != stored.version {
            let message = "The dashboard has been changed by someone else";
            return refuse_with(412, "version-mismatch", message);
        }
        // Observed: an identical save makes a new version too.
        stored.version += 1;
        let uid = stored.model["uid"].clone();
        stored.model = model.clone();
        stored.model["uid"] = uid.clone();
        stored.model["id"] = json!(stored.id);
        stored.model["version"] = json!(stored.version);
        stored.model["title"] = json!(title);
        stored.folder = folder;
        ok(
            json!({"id": stored.id, "slug": slug(&title), "status": "success", "uid": uid, "version": stored.version}),
        )
    }

    fn search(&self, parameter: &dyn Fn(&str) -> Vec<String>) -> Answer {
        let tags = parameter("tag");
        let ids = parameter("folderIds");
        // Observed: the old server ignores a folder's uid without a word.
        let uids = if self.version == Version::Modern { parameter("folderUIDs") } else { Vec::new() };
        let folder_of = |stored: &Stored| self.folders.iter().find(|folder| folder.id == stored.folder);
        let matches = |stored: &&Stored| {
            let has = |tag: &String| {
                stored.model["tags"].as_array().into_iter().flatten().any(|other| other == tag)
            };
            tags.iter().all(has)
                && (ids.is_empty() || ids.contains(&stored.folder.to_string()))
                && (uids.is_empty() || folder_of(stored).is_some_and(|folder| uids.contains(&folder.uid)))
        };
        let shown = |stored: &Stored| {
            let folder = folder_of(stored);
            json!({
                "id": stored.id, "uid": stored.model["uid"], "title": stored.model["title"], "type": "dash-db",
                "tags": stored.model["tags"], "folderId": folder.map(|folder| folder.id),
                "folderUid": folder.map(|folder| folder.uid.clone()),
            })
        };
        ok(self.dashboards.iter().filter(matches).map(shown).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(state: &mut State, method: &str, path: &str, body: Value) -> Answer {
        let request = Request {
            method: method.into(),
            path: path.split('/').map(str::to_owned).collect(),
            query: vec![],
            authorization: Some("Bearer t".into()),
            organization: None,
            body: Some(body),
        };
        state.answer(&request).0
    }

    fn basic(state: &mut State, password: &str) -> u16 {
        let encoded = base64::engine::general_purpose::STANDARD.encode(format!("admin:{password}"));
        let request = Request {
            method: "GET".into(),
            path: vec!["api".into(), "folders".into()],
            query: vec![],
            authorization: Some(format!("Basic {encoded}")),
            organization: None,
            body: None,
        };
        state.answer(&request).0.status
    }

    fn state() -> State {
        State::new(Version::Old, ("admin", "pw"), "t")
    }

    #[test]
    fn five_wrong_passwords_lock_the_right_one_out() {
        let mut state = state();
        for _ in 0..4 {
            assert_eq!(basic(&mut state, "wrong"), 401);
        }
        assert_eq!(basic(&mut state, "pw"), 200, "four do not");
        assert_eq!(basic(&mut state, "wrong"), 401);
        assert_eq!(basic(&mut state, "pw"), 401);
        assert_eq!(call(&mut state, "GET", "api/folders", Value::Null).status, 200, "tokens go on");
    }

    #[test]
    fn saves_collide_as_observed() {
        let mut state = state();
        let mut save = |uid: &str, title: &str, more: Value| {
            let mut body = json!({"dashboard": {"id": null, "uid": uid, "title": title}, "overwrite": false});
            for (key, value) in more.as_object().into_iter().flatten() {
                if key == "version" {
                    body["dashboard"]["version"] = value.clone();
                } else {
                    body[key] = value.clone();
                }
            }
            call(&mut state, "POST", "api/dashboards/db", body)
        };
        assert_eq!(save("a", "Orders per day", json!({})).status, 200);
        assert_eq!(save("a", "Orders per day", json!({})).body["status"], "version-mismatch");
        assert_eq!(
            save("a", "Orders per day", json!({"version": 1})).body["version"],
            2,
            "a save that changes nothing"
        );
        assert_eq!(save("b", "Orders-per day!", json!({})).body["status"], "name-exists");
        let hit = save("b", "Orders-per day!", json!({"overwrite": true}));
        assert_eq!(hit.body["uid"], "a", "overwrite hits the other one");
    }

    #[test]
    fn a_data_source_keeps_its_secrets_and_checks_versions_only_when_asked() {
        let mut state = state();
        let source = json!({"uid": "s", "name": "n", "type": "t", "access": "proxy", "secureJsonData": {"password": "p"}});
        assert_eq!(call(&mut state, "POST", "api/datasources", source.clone()).status, 200);
        assert_eq!(call(&mut state, "POST", "api/datasources", source).status, 409);
        assert_eq!(call(&mut state, "POST", "api/datasources", json!({"name": "x"})).status, 422);
        let id = state.sources()[0]["id"].clone();
        let path = format!("api/datasources/{id}");
        let change = |version: Value| json!({"uid": "s", "name": "n", "type": "t", "version": version});
        assert_eq!(call(&mut state, "PUT", &path, change(json!(5))).status, 200);
        assert_eq!(state.sources()[0]["version"], 6);
        assert_eq!(call(&mut state, "PUT", &path, change(json!(3))).status, 409);
        assert_eq!(call(&mut state, "PUT", &path, change(Value::Null)).status, 200);
        assert_eq!(
            (&state.sources()[0]["version"], &state.sources()[0]["secureJsonData"]["password"]),
            (&json!(1), &json!("p"))
        );
        let shown = call(&mut state, "GET", "api/datasources/uid/s", Value::Null).body;
        assert_eq!(
            (&shown["secureJsonFields"]["password"], shown.get("secureJsonData")),
            (&json!(true), None)
        );
    }

    #[test]
    fn a_folder_collides_by_uid_and_title_and_takes_its_dashboards_along() {
        let mut state = state();
        let folder = |uid: &str, title: &str| json!({"uid": uid, "title": title});
        let made = call(&mut state, "POST", "api/folders", folder("f", "Shop"));
        assert_eq!(made.status, 200);
        assert_eq!(call(&mut state, "POST", "api/folders", folder("f", "Other")).status, 412);
        assert_eq!(call(&mut state, "POST", "api/folders", folder("g", "SHOP")).status, 400);
        let body = json!({"dashboard": {"uid": "d", "title": "D"}, "folderId": made.body["id"]});
        assert_eq!(call(&mut state, "POST", "api/dashboards/db", body).status, 200);
        assert_eq!(call(&mut state, "DELETE", "api/folders/f", Value::Null).status, 200);
        assert!(state.dashboards().is_empty());
    }
}
