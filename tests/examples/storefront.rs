//! A shopper browses the storefront example and buys something, by HTTP and with cookies, as a browser without
//! JavaScript does.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use ecom::ShopBuilder;
use ecom::paging::Paging;
use ecom::sales::{OrderFilter, OrderSort};
use reqwest::header::{COOKIE, HeaderMap, LOCATION, ORIGIN, SET_COOKIE};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder};

use super::program;

/// A browser with its cookies.
struct Browser {
    client: Client,
    /// The origin of the storefront, such as `http://127.0.0.1:8080`.
    origin: String,
    cookies: BTreeMap<String, String>,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn location(&self) -> &str {
        self.headers.get(LOCATION).map_or("", |value| value.to_str().unwrap())
    }
}

impl Browser {
    fn new(address: &str) -> Self {
        let client = Client::builder().no_proxy().redirect(Policy::none()).build().unwrap();
        Self { client, origin: format!("http://{address}"), cookies: BTreeMap::new() }
    }

    fn request(&self, request: RequestBuilder) -> RequestBuilder {
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        request.header(COOKIE, cookies.join("; "))
    }

    fn form(&self, path: &str, fields: &[(&str, &str)]) -> RequestBuilder {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(fields);
        self.request(self.client.post(format!("{}{path}", self.origin)))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.finish())
    }

    fn keep_cookies(&mut self, answer: &Answer) {
        for cookie in answer.headers.get_all(SET_COOKIE) {
            let cookie = cookie.to_str().unwrap();
            assert!(cookie.contains("; HttpOnly; SameSite=Lax"), "{cookie}");
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            if cookie.contains("; Max-Age=0;") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    async fn get(&self, path: &str) -> Answer {
        answer(self.request(self.client.get(format!("{}{path}", self.origin)))).await
    }

    async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let answer = answer(self.form(path, fields).header(ORIGIN, &self.origin)).await;
        self.keep_cookies(&answer);
        answer
    }
}

async fn answer(request: RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    // Templates write slashes as this entity, which means the same in a page.
    let text = response.text().await.unwrap().replace("&#x2f;", "/");
    Answer { status, headers, text }
}

/// Returns the text between two others.
fn between<'t>(text: &'t str, before: &str, after: &str) -> &'t str {
    let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("no `{before}` in {text}"));
    rest.split_once(after).unwrap().0
}

/// Starts the storefront with the sample catalog, and returns it and its address.
fn start(data: &Path) -> (Child, String) {
    let mut storefront = program("storefront");
    storefront.arg("127.0.0.1:0").env("ECOM_DATA", data).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = storefront.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.rsplit_once("http://").unwrap().1.trim().to_owned();
    (child, address)
}

async fn browse(browser: &Browser) {
    let home = browser.get("/").await;
    assert_eq!(home.status, 200);
    assert!(home.headers["content-security-policy"].to_str().unwrap().starts_with("default-src 'none'"));
    assert!(home.text.contains(r#"<a href="/c/electronics">Electronics</a>"#), "{}", home.text);

    let first = browser.get("/c/electronics").await.text;
    let next = between(&first, r#"<a class="button" href=""#, r#"" rel="next""#);
    let second = browser.get(&format!("/c/electronics{next}")).await.text;
    let titles = |page: &str| page.matches(r#"<li class="card">"#).count();
    assert_eq!((titles(&first), titles(&second)), (24, 24), "a cursor leads to the second page");
    let product = between(&first, r#"<a href="/p/"#, r#"">"#);
    assert!(!second.contains(&format!("/p/{product}\"")), "no product is on both pages");

    let found = browser.get("/search?q=hedphones").await.text;
    assert!(found.contains("<mark>Headphones</mark>"), "{found}");
    assert!(browser.get("/suggest?q=headph").await.text.contains("/p/"), "products are suggested while one types");
    assert_eq!(browser.get("/p/no-such-product").await.status, 404);
    let injected = browser.get("/search?q=%3Cscript%3Ealert(1)%3C/script%3E").await.text;
    assert!(!injected.contains("<script>alert"), "texts are escaped");
}

/// Adds two headphones to the cart, and returns the cart and the version that the form of the checkout names.
async fn fill_cart(browser: &mut Browser) -> (String, String) {
    let page = browser.get("/p/halcyon-over-ear-wireless-headphones").await.text;
    let sku = between(&page, r#"name="sku" value=""#, "\"");
    let price = format!("price-{sku}");
    let seen = between(&page, &format!(r#"name="{price}" value=""#), "\"");
    let line =
        |seen| [("product", "halcyon-over-ear-wireless-headphones"), ("sku", sku), (&*price, seen), ("quantity", "2")];

    let foreign = browser.form("/cart", &line(seen)).header(ORIGIN, "http://elsewhere.example");
    for (what, request) in [("another site", foreign), ("no origin", browser.form("/cart", &line(seen)))] {
        let refused = answer(request).await;
        assert_eq!((refused.status, refused.headers.get(SET_COOKIE)), (403, None), "a form of {what}");
    }
    let stale = browser.post("/cart", &line("1.00 USD")).await;
    assert_eq!((stale.status, stale.location()), (303, "/p/halcyon-over-ear-wireless-headphones?notice=price"), "R8");

    let added = browser.post("/cart", &line(seen)).await;
    assert_eq!((added.status, added.location()), (303, "/cart?notice=added"));
    assert!(browser.get("/cart").await.text.contains("Subtotal <strong>$298.00</strong>"));
    let checkout = browser.get("/checkout").await.text;
    let named = |name: &str| between(&checkout, &format!(r#"name="{name}" value=""#), "\"").to_owned();
    (named("cart"), named("version"))
}

#[test]
fn r20_a_shopper_buys_in_the_storefront_and_a_double_click_places_one_order() {
    ecom_core::testkit::run(async {
        let dir = tempfile::tempdir().unwrap();
        let (mut storefront, address) = start(dir.path());
        let mut browser = Browser::new(&address);
        browse(&browser).await;
        // As the reference server stores an upload.
        let uploaded = format!("media/{}", "a0".repeat(32));
        std::fs::create_dir_all(dir.path().join(&uploaded)).unwrap();
        std::fs::write(dir.path().join(&uploaded).join("640.jpg"), "an upload").unwrap();
        let file = browser.get(&format!("/{uploaded}/640.jpg")).await;
        assert_eq!((file.status, file.headers["content-type"].to_str().unwrap()), (200, "image/jpeg"));
        assert_eq!(file.text, "an upload");
        for absent in [format!("/{uploaded}/320.jpg"), "/media/..%2fecom.db".to_owned()] {
            assert_eq!(browser.get(&absent).await.status, 404, "{absent}");
        }
        let (cart, version) = fill_cart(&mut browser).await;

        let mut form = vec![
            ("cart", cart.as_str()),
            ("version", version.as_str()),
            ("first_name", "Ada"),
            ("last_name", "Lovelace"),
            ("email", "ada@example.com"),
            ("delivery", "home_delivery"),
            ("city", "London"),
        ];
        let incomplete = browser.post("/checkout", &form).await;
        assert_eq!(incomplete.status, 422, "the street is missing");
        assert!(incomplete.text.contains(r#"id="street-error""#), "{}", incomplete.text);

        form.push(("street", "Ockham Lane"));
        // Another page of the browser has changed the cart since.
        let mut outdated = form.clone();
        outdated[1].1 = "0";
        let refused = browser.post("/checkout", &outdated).await;
        assert_eq!((refused.status, refused.location()), (303, "/cart?notice=changed"));
        let submit = || answer(browser.form("/checkout", &form).header(ORIGIN, &browser.origin));
        let (first, second) = tokio::join!(submit(), submit());
        let order = format!("/order/{cart}");
        for placed in [&first, &second] {
            assert_eq!((placed.status, placed.location()), (303, order.as_str()), "both lead to the same order");
        }
        browser.keep_cookies(&first);
        assert!(!browser.cookies.contains_key("cart"), "the next cart is a new one");
        let third = browser.post("/checkout", &form).await;
        assert_eq!((third.status, third.location()), (303, order.as_str()), "a late click leads there, too");

        let page = browser.get(&order).await.text;
        let number = between(&page, "<title>Order ", " ·").to_owned();
        assert!(page.contains("<strong>$298.00</strong>"), "{page}");
        let mut stranger = Browser::new(&address);
        assert_eq!(stranger.get(&order).await.location(), "/order", "the token of the cart is required");
        for (email, status) in [("eve@example.com", 404), ("Ada@example.com", 200)] {
            let found = stranger.post("/order", &[("number", &number), ("email", email)]).await;
            assert_eq!(found.status, status, "{email}");
            assert_eq!(found.text.contains("$298.00"), status == 200, "{}", found.text);
        }

        let id = storefront.id().to_string();
        assert!(Command::new("kill").args(["-s", "INT", &id]).status().unwrap().success());
        assert!(storefront.wait().unwrap().success());
        let database = format!("sqlite://{}", dir.path().join("ecom.db").display());
        let shop = ShopBuilder::new().database(database).search("none").build().await.unwrap();
        let all = Paging::first(10);
        let (orders, _) = shop.orders().list(&OrderFilter::default(), OrderSort::default(), &all).await.unwrap();
        let placed: Vec<(&str, i64)> = orders.items.iter().map(|o| (o.number.as_str(), o.lines[0].quantity)).collect();
        assert_eq!(placed, [(number.as_str(), 2)]);
        shop.close().await;
    });
}
