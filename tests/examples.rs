//! The examples are run as programs. Those that take URLs do the same on each database and on each search engine.

#![cfg(all(feature = "sqlite", feature = "memory", feature = "tantivy", feature = "testkit"))]
#![expect(clippy::unwrap_used, reason = "these are tests: a broken expectation panics")]

use std::any::Any;
use std::process::Command;

/// Returns the URL of a new database of each kind, with the value that keeps it.
async fn databases() -> Vec<(String, Box<dyn Any + Send>)> {
    let dir = tempfile::tempdir().unwrap();
    let file = format!("sqlite://{}", dir.path().join("shop.db").display());
    #[cfg_attr(not(any(feature = "postgres", feature = "mysql")), expect(unused_mut, reason = "the servers are more"))]
    let mut all: Vec<(String, Box<dyn Any + Send>)> = vec![(file, Box::new(dir))];
    #[cfg(feature = "postgres")]
    {
        let database = test_servers::postgres().await;
        all.push((database.url, Box::new(database.guard)));
    }
    #[cfg(feature = "mysql")]
    {
        let database = test_servers::mysql().await;
        all.push((database.url, Box::new(database.guard)));
    }
    all
}

/// Returns the program of an example. Cargo builds the examples with the tests.
fn program(example: &str) -> Command {
    let mut program = std::env::current_exe().unwrap();
    program.pop();
    program.pop();
    program.extend(["examples", example]);
    assert!(program.exists(), "`cargo build --examples` with the features of this test makes {}", program.display());
    Command::new(program)
}

/// Returns what an example prints on a database, and on a search engine if it takes one.
fn output(example: &str, urls: &[String]) -> String {
    let output = program(example).args(urls).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    let schemes: Vec<&str> = urls.iter().filter_map(|url| url.split(':').next()).collect();
    assert!(output.status.success(), "{example} on {schemes:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

async fn says<const N: usize>(example: &'static str, urls: Vec<String>, expected: [&'static str; N]) {
    // Twice, because the second run finds what the first one left.
    for _ in 0..2 {
        let urls = urls.clone();
        let text = tokio::task::spawn_blocking(move || output(example, &urls)).await.unwrap();
        // The consumer prints these, at any time and with ids that differ.
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("stock room: ")).collect();
        assert_eq!(lines, expected);
    }
}

async fn says_everywhere<const N: usize>(example: &'static str, expected: [&'static str; N]) {
    for (url, _guard) in databases().await {
        says(example, vec![url], expected).await;
    }
}

/// Runs an example on SQLite with each search engine.
async fn says_with_every_engine<const N: usize>(example: &'static str, expected: [&'static str; N]) {
    let directory = tempfile::tempdir().unwrap();
    let tantivy = format!("tantivy://{}", directory.path().join("index").display());
    let mut engines: Vec<(String, Box<dyn Any + Send>)> = vec![(tantivy, Box::new(directory))];
    #[cfg(feature = "elasticsearch")]
    for (product, index) in
        [("elasticsearch", test_servers::elasticsearch()), ("opensearch", test_servers::opensearch())]
    {
        engines.push((format!("{product}+{}?index={}&replicas=0", index.url, index.name), Box::new(index)));
    }
    #[cfg(feature = "meilisearch")]
    if let Some(index) = test_servers::meilisearch() {
        engines.push((format!("meilisearch+{}?index={}", index.url, index.name), Box::new(index)));
    }
    engines.push(("tantivy::memory:".to_owned(), Box::new(())));
    for (engine, _guard) in engines {
        let directory = tempfile::tempdir().unwrap();
        let database = format!("sqlite://{}", directory.path().join("shop.db").display());
        says(example, vec![database, engine], expected).await;
    }
}

#[test]
fn an_application_brings_its_own_search_provider() {
    let expected = ["at most 10 USD: Paper, Ink", "a search by text: list does not support this: full_text"];
    ecom_core::testkit::run(says("search_provider", Vec::new(), expected));
}

const EMBED: [&str; 6] = [
    "37 left of TEA-50",
    "Sencha Yabukita: 6.21 USD to 11.25 USD",
    "in the cart: 12.42 USD",
    "pending order over 12.42 USD, 35 left",
    "canceled order, 37 left",
    "due: 0.00 USD (the bills less the credit notes, void ones excluded; payments are not subtracted (R36))",
];

#[test]
fn one_app_runs_on_every_database() {
    ecom_core::testkit::run(says_everywhere("embed", EMBED));
}

#[test]
fn one_app_runs_on_every_search_engine() {
    ecom_core::testkit::run(says_with_every_engine("embed", EMBED));
}

#[test]
fn a_host_has_the_shop_in_its_own_transaction_on_every_database() {
    ecom_core::testkit::run(says_everywhere("transaction", ["an order over 36.00 USD and its parcel are in, 10 left"]));
}

#[test]
fn an_application_has_many_shops() {
    let expected = ["acme: Anvil", "globex: Orb", "initech: Stapler"];
    ecom_core::testkit::run(says("shops", Vec::new(), expected));
}

#[cfg(feature = "http")]
#[test]
fn an_application_brings_its_own_authentication() {
    let expected = [
        "anybody reads the catalog: 200 OK",
        "nobody reads a customer without a session: 401 Unauthorized",
        "a session that has ended is refused: 401 Unauthorized",
        "Ada reads her own profile: 200 OK",
        "Ada does not learn of Bob: 404 Not Found",
        "the clerk reads every customer: 200 OK",
        "the clerk has no other permission: 403 Forbidden",
    ];
    ecom_core::testkit::run(says("own_auth", Vec::new(), expected));
}

#[cfg(all(unix, feature = "config"))]
#[path = "examples/storefront.rs"]
mod storefront;

#[cfg(all(unix, feature = "config"))]
mod server {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::TcpStream;
    use std::process::{Child, ExitStatus, Stdio};
    use std::time::{Duration, Instant};

    use super::program;

    /// A server that listens, its address, and what keeps its data.
    fn start() -> (Child, String, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let (child, address) = serve(dir.path());
        (child, address, dir)
    }

    /// Starts a server with its data in a directory, and returns it and its address.
    fn serve(dir: &std::path::Path) -> (Child, String) {
        serve_with(dir, &[])
    }

    /// As [`serve`], with further settings.
    fn serve_with(dir: &std::path::Path, settings: &[(&str, &str)]) -> (Child, String) {
        let mut child = program("server")
            .envs(settings.iter().copied())
            .arg("--no-sample")
            .env("ECOM_LISTEN", "127.0.0.1:0")
            .env("ECOM_DATA", dir.join("data"))
            .env("ECOM_ADMIN_KEY", KEY)
            .env("ECOM_SHUTDOWN_TIMEOUT", "60")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.rsplit_once("http://").unwrap().1.trim().to_owned();
        (child, address)
    }

    fn signal(child: &Child, names: &[&str]) {
        let lines: Vec<String> = names.iter().map(|name| format!("kill -s {name} {}", child.id())).collect();
        let sent = std::process::Command::new("sh").args(["-c", &lines.join(" && ")]).status().unwrap();
        assert!(sent.success(), "{names:?}");
    }

    fn ended(child: &mut Child, within: Duration) -> Option<ExitStatus> {
        let start = Instant::now();
        while start.elapsed() < within {
            if let Some(status) = child.try_wait().unwrap() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }

    const KEY: &str = "ecom_0123456789abcdefghijklmnopqrstuv";
    const HEAD: &str = "POST /api/v1/categories HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                        authorization: Bearer ecom_0123456789abcdefghijklmnopqrstuv\r\n\
                        content-length: 15\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n";

    /// How long a test waits for what must happen. It is not a measure: the machine may be slow.
    const LIMIT: Duration = Duration::from_secs(120);

    /// Begins a request, and returns it once the server waits for its body.
    fn begin(address: String) -> TcpStream {
        let mut request = TcpStream::connect(address).unwrap();
        request.set_read_timeout(Some(LIMIT)).unwrap();
        request.write_all(HEAD.as_bytes()).unwrap();
        let mut told = [0; 25];
        request.read_exact(&mut told).unwrap();
        assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
        request
    }

    #[test]
    fn a_signal_lets_open_requests_end() {
        for name in ["TERM", "HUP", "INT"] {
            let (mut child, address, _dir) = start();
            let mut request = begin(address);
            signal(&child, &[name]);
            assert_eq!(ended(&mut child, Duration::from_millis(300)), None, "{name}: a request is open");
            request.write_all(b"{\"name\": \"Tea\"}").unwrap();
            let mut answer = String::new();
            request.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 201"), "{name}: {answer}");
            assert!(ended(&mut child, LIMIT).is_some_and(|s| s.success()), "{name}");
        }
    }

    #[test]
    fn a_second_signal_ends_the_server_at_once() {
        for (first, second) in [("INT", "INT"), ("TERM", "TERM"), ("HUP", "TERM")] {
            let (mut child, address, _dir) = start();
            let _request = begin(address);
            // A supervisor may send several at once.
            signal(&child, &[first, second]);
            assert_eq!(ended(&mut child, Duration::from_millis(1500)), None, "{first}: a request is open");
            signal(&child, &[second]);
            assert_eq!(ended(&mut child, LIMIT).and_then(|s| s.code()), Some(1), "{first}, {second}");
        }
    }

    /// What the demo leaves in a shop: customers, and number, total and status of the orders, oldest first.
    async fn demo(data: &std::path::Path) -> (usize, Vec<(String, String, ecom::sales::OrderStatus)>) {
        use ecom::paging::Paging;
        use ecom::sales::{CustomerFilter, CustomerSort, OrderFilter, OrderSort};

        let database = format!("sqlite://{}", data.join("ecom.db").display());
        let shop = ecom::ShopBuilder::new().database(database).search("none").build().await.unwrap();
        let all = Paging::first(1_000);
        let (customers, _) =
            shop.customers().list(&CustomerFilter::default(), CustomerSort::default(), &all).await.unwrap();
        let (mut orders, _) = shop.orders().list(&OrderFilter::default(), OrderSort::default(), &all).await.unwrap();
        assert!(shop.inventory().imbalances().await.unwrap().is_empty(), "R11");
        orders.items.sort_by_key(|order| order.placed_at);
        let (first, last) = (orders.items[0].placed_at, orders.items.last().unwrap().placed_at);
        assert!((40..=42).contains(&(last - first).num_days()), "the orders are spread over six weeks");
        let rows = orders.items.iter().map(|o| (o.number.clone(), o.totals.total.to_string(), o.status));
        let found = (customers.items.len(), rows.collect());
        shop.storage().close().await;
        found
    }

    #[tokio::test]
    async fn the_demo_is_the_same_in_every_shop_and_is_added_once() {
        let run = |data: std::path::PathBuf| async move {
            let output = tokio::task::spawn_blocking(move || {
                let mut server = program("server");
                server.args(["--demo", "--exit"]).env("ECOM_DATA", &data).env("ECOM_LISTEN", "127.0.0.1:0").output()
            });
            let output = output.await.unwrap().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let mut found = Vec::new();
        for dir in &dirs {
            let text = run(dir.path().to_owned()).await;
            assert!(text.contains("orders of the last six weeks"), "{text}");
            found.push(demo(dir.path()).await);
        }
        assert_eq!(found[0], found[1]);
        assert!(found[0].0 >= 40 && found[0].1.len() >= 150, "{found:?}");
        for status in ecom::sales::OrderStatus::ALL {
            assert!(found[0].1.iter().any(|(_, _, s)| s == status), "some orders are {status:?}");
        }
        run(dirs[0].path().to_owned()).await;
        assert_eq!(demo(dirs[0].path()).await, found[0], "a second run adds nothing");
    }

    #[test]
    fn r41_the_audit_ends_with_status_1_if_something_is_wrong() {
        ecom_core::testkit::run(async {
            let dir = tempfile::tempdir().unwrap();
            let url = format!("sqlite://{}", dir.path().join("shop.db").display());
            let audit = || {
                let mut server = program("server");
                let server = server.arg("audit").env("ECOM_DATA", dir.path()).env("DATABASE_URL", &url);
                let output = server.output().unwrap();
                (output.status.code(), String::from_utf8(output.stdout).unwrap())
            };
            assert_eq!(audit(), (Some(0), "0 SKUs and 0 orders checked, 0 findings\n".to_owned()));
            let shop = ecom::ShopBuilder::new().database(&url).search("none").build().await.unwrap();
            let pen = ecom::catalog::ProductInput::new("Pen").price("2 USD".parse().unwrap()).stock(3);
            let pen = shop.products().create(&pen).await.unwrap();
            shop.close().await;
            assert_eq!(audit(), (Some(0), "1 SKUs and 0 orders checked, 0 findings\n".to_owned()));
            let mut database = <sqlx::SqliteConnection as sqlx::Connection>::connect(&url).await.unwrap();
            sqlx::query("UPDATE skus SET on_hand = 4").execute(&mut database).await.unwrap();
            let expected = format!(
                "sku {}: on hand is 4, but the ledger adds up to 3 (R11)\n1 SKUs and 0 orders checked, 1 findings\n",
                pen.skus[0].id
            );
            assert_eq!(audit(), (Some(1), expected));
        });
        let mut both = program("server");
        let output = both.args(["--no-sample", "audit"]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "the subcommand takes no options of the server");
    }

    /// Moves the search of a shop with the sample to each other engine, while a server of the shop is running.
    #[test]
    fn search_moves_to_another_engine_while_a_server_runs() {
        let dir = tempfile::tempdir().unwrap();
        let run = |arguments: &[&str]| {
            let mut server = program("server");
            let server = server.args(arguments).current_dir(dir.path()).env("ECOM_DATA", dir.path().join("data"));
            let output = server.env("ECOM_LISTEN", "127.0.0.1:0").output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            (output.status.code(), text, String::from_utf8(output.stderr).unwrap())
        };
        let (status, _, errors) = run(&["--exit"]);
        assert_eq!(status, Some(0), "{errors}");
        let (mut serving, address) = serve(dir.path());
        let queries = dir.path().join("queries.txt");
        std::fs::write(&queries, "headphones\nhedphones\n\nwireless charger\ncheap kettle\n").unwrap();
        let settings = dir.path().join("settings.env");
        std::fs::write(&settings, "ECOM_LOG=warn\nSEARCH_URL=old\n# kept\n").unwrap();
        let (queries, settings_path) = (queries.to_str().unwrap(), settings.to_str().unwrap());
        let other = format!("tantivy://{}", dir.path().join("other").display());
        #[cfg_attr(not(feature = "elasticsearch"), expect(unused_mut, reason = "the servers are more"))]
        let mut engines = vec![other];
        #[cfg(feature = "elasticsearch")]
        let index = test_servers::elasticsearch();
        #[cfg(feature = "elasticsearch")]
        engines.push(format!("elasticsearch+{}?index={}&replicas=0", index.url, index.name));
        for to in &engines {
            let move_to = |more: &[&str]| {
                let fixed = ["move-search", "--to", to, "--queries", queries, "--sample", "50", "--env-file"];
                run(&[&fixed, &[settings_path][..], more].concat())
            };
            let before = std::fs::read_to_string(&settings).unwrap();
            let (status, text, errors) = move_to(&["--min-overlap", "1.1"]);
            assert_eq!(status, Some(1), "{text}{errors}");
            assert!(text.contains("not switched: 110 % of the hits"), "{text}{errors}");
            assert_eq!(std::fs::read_to_string(&settings).unwrap(), before, "nothing is switched");
            let (status, text, errors) = move_to(&[]);
            assert_eq!(status, Some(0), "{text}{errors}");
            assert!(text.contains("4 searches: ") && text.contains("titles: "), "{text}");
            let expected = format!("ECOM_LOG=warn\n# kept\nSEARCH_URL='{to}'\n");
            assert_eq!(std::fs::read_to_string(&settings).unwrap(), expected);
            let mut request = TcpStream::connect(&address).unwrap();
            request.set_read_timeout(Some(LIMIT)).unwrap();
            let get = "GET /api/v1/products/search?q=headphones HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
            request.write_all(get.as_bytes()).unwrap();
            let mut answer = String::new();
            request.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "the server goes on: {answer}");
        }
        signal(&serving, &["TERM"]);
        assert!(ended(&mut serving, LIMIT).is_some_and(|status| status.success()));
    }

    #[test]
    fn migrate_applies_what_its_check_lists() {
        ecom_core::testkit::run(async {
            use sqlx::Connection as _;

            let dir = tempfile::tempdir().unwrap();
            let data = dir.path().join("data");
            let run = |arguments: &[&str], settings: &[(&str, &str)]| {
                let mut server = program("server");
                server.args(arguments).env("ECOM_DATA", &data).env("ECOM_LISTEN", "127.0.0.1:0");
                let output = server.envs(settings.iter().copied()).output().unwrap();
                let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
                (output.status.code(), text)
            };
            let says = |(status, text): (Option<i32>, String), expected: i32, words: &str| {
                assert_eq!(status, Some(expected), "{text}");
                assert!(text.contains(words), "{words}: {text}");
            };
            let (check, no_migration) = (["migrate", "--check"], [("ECOM_MIGRATE", "false")]);
            let start = ["--no-sample", "--exit"];
            says(run(&check, &[]), 1, "pending 0001_catalog\n");
            assert!(!data.exists(), "a check creates nothing");
            says(run(&start, &no_migration), 1, "run `server migrate` first");
            says(run(&["migrate"], &[]), 0, "applied 0001_catalog\n");
            says(run(&["migrate"], &no_migration), 0, "nothing to do: the schema is that of this release\n");
            says(run(&check, &[]), 0, "the schema is that of this release\n");
            says(run(&start, &no_migration), 0, "");
            let url = format!("sqlite://{}", data.join("ecom.db").display());
            let mut database = sqlx::SqliteConnection::connect(&url).await.unwrap();
            let later = "INSERT INTO ecom_migrations VALUES (999, '0999_later', '0', 0)";
            sqlx::query(later).execute(&mut database).await.unwrap();
            says(run(&check, &[]), 0, "a later release has made the schema (0999_later), which serves this one\n");
            says(run(&["migrate"], &[]), 0, "nothing to do: a later release");
            says(run(&start, &[]), 0, "");
            let unserved = "UPDATE ecom_meta SET value = '999' WHERE name = 'serves_from'";
            sqlx::query(unserved).execute(&mut database).await.unwrap();
            says(run(&check, &[]), 2, "(0999_later), and it does not serve this one: run that release");
            says(run(&["migrate"], &[]), 1, "does not serve it");
            says(run(&start, &[]), 1, "does not serve it");
            let directory = format!("sqlite://{}", dir.path().display());
            says(run(&check, &[("DATABASE_URL", &*directory)]), 2, "DATABASE_URL");
        });
    }

    /// Returns the answer to a GET request with the key.
    fn get(address: &str, path: &str) -> String {
        let mut request = TcpStream::connect(address).unwrap();
        request.set_read_timeout(Some(LIMIT)).unwrap();
        let head =
            format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\nconnection: close\r\n\r\n");
        request.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        request.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn smoke_says_what_is_wrong_with_a_server_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let (key, wrong) = (file("key", &format!("{KEY}\n")), file("wrong", &KEY.replace('0', "x")));
        let smoke = |address: &str, arguments: &[&str]| {
            let mut server = program("server");
            let output = server.arg("smoke").arg(format!("http://{address}")).args(arguments).output().unwrap();
            (output.status.code(), String::from_utf8(output.stdout).unwrap())
        };
        let with_key = ["--key-file", &*key];

        let (mut child, address) = serve(dir.path());
        let (status, text) = smoke(&address, &with_key);
        assert_eq!(status, Some(0), "{text}");
        for check in ["health", "read", "search", "write"] {
            assert!(text.contains(&format!("ok      {check}: ")), "{text}");
        }
        for (arguments, expected, words) in [
            (&["--key-file", &*wrong][..], 1, "does not accept the key of --key-file"),
            (&[] as &[&str], 1, "name a file with an API key: --key-file FILE"),
            (&["--read-only"][..], 0, "skipped write\n"),
        ] {
            let (status, text) = smoke(&address, arguments);
            assert_eq!(status, Some(expected), "{text}");
            assert!(text.contains(words), "{words}: {text}");
        }
        let all = get(&address, "/api/v1/products?status=any&include_deleted=true");
        assert!(all.starts_with("HTTP/1.1 200") && all.contains("\"total\":0,"), "nothing is left: {all}");
        signal(&child, &["TERM"]);
        assert!(ended(&mut child, LIMIT).is_some_and(|status| status.success()));

        let (status, text) = smoke(&address, &with_key);
        assert_eq!(status, Some(1), "{text}");
        assert!(text.contains("FAILED  health: cannot connect to 127.0.0.1:"), "{text}");

        let (mut child, address) = serve_with(dir.path(), &[("SEARCH_URL", "none"), ("ECOM_ONLY", "products,search")]);
        let (status, text) = smoke(&address, &with_key);
        assert_eq!(status, Some(1), "{text}");
        assert!(
            text.contains("FAILED  search: ") && text.contains("SEARCH_URL=none") && text.contains("ok      write")
        );
        assert!(get(&address, "/api/v1/orders").starts_with("HTTP/1.1 404"), "ECOM_ONLY");
        signal(&child, &["TERM"]);
        assert!(ended(&mut child, LIMIT).is_some_and(|status| status.success()));
    }

    #[test]
    fn an_unknown_group_of_routes_is_refused_with_the_names() {
        let dir = tempfile::tempdir().unwrap();
        let run = |arguments: &[&str], name: &str, value: &str| {
            let mut server = program("server");
            let server = server.args(arguments).env("ECOM_DATA", dir.path()).env(name, value);
            let output = server.output().unwrap();
            (output.status.code(), String::from_utf8(output.stderr).unwrap())
        };
        for (status, text) in
            [run(&["--only", "catalog,serch"], "ECOM_LOG", "info"), run(&[], "ECOM_ONLY", "catalog,serch")]
        {
            assert!(status == Some(1) || status == Some(2), "{status:?}: {text}");
            assert!(text.contains("catalog, stock, sales, search, access, platform, products"), "{text}");
        }
    }

    #[test]
    fn a_misspelled_setting_is_a_warning() {
        let dir = tempfile::tempdir().unwrap();
        let mut server = program("server");
        let server = server.args(["--no-sample", "--exit"]).env("ECOM_DATA", dir.path()).env("ECOM_LISTEM", "x");
        let output = server.output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{text}");
        assert!(text.contains("WARN") && text.contains("did you mean `ECOM_LISTEN`?"), "{text}");
    }

    #[test]
    fn r16_an_error_at_the_start_names_the_setting_once() {
        let dir = tempfile::tempdir().unwrap();
        let noise = dir.path().join("shop.db");
        std::fs::write(&noise, "this is no database. ".repeat(100)).unwrap();
        let (noise, place) = (format!("sqlite://{}", noise.display()), dir.path().join("data"));
        let run = |name: &str, value: &str| {
            let mut server = program("server");
            let output = server.env("ECOM_DATA", &place).env("ECOM_LISTEN", "127.0.0.1:0").env(name, value).output();
            let output = output.unwrap();
            assert_eq!(output.status.code(), Some(1));
            String::from_utf8(output.stderr).unwrap()
        };
        let text = run("DATABASE_URL", &noise);
        assert_eq!(text.matches("is not an SQLite database").count(), 1, "{text}");
        assert!(text.contains("DATABASE_URL: names a file") && !text.contains("caused by"), "{text}");
        let text = run("ECOM_LOG", "loud");
        assert!(text.contains("ECOM_LOG: must be `off`, `error`,"), "{text}");
        let text = run("ECOM_REQUEST_TIMEOUT", "30s");
        assert!(text.contains("ECOM_REQUEST_TIMEOUT: must be a whole number of seconds without a unit"), "{text}");
    }
}
