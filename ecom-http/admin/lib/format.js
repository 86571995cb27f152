// Numbers, money and times, in the language and the time zone of the browser.

const languages = navigator.languages;
const cached = (make) => {
  const made = new Map();
  return (key) => {
    if (!made.has(key)) made.set(key, make(key));
    return made.get(key);
  };
};

const moneyFormat = cached((currency) => new Intl.NumberFormat(languages, { style: "currency", currency }));
const roundMoneyFormat = cached(
  (currency) => new Intl.NumberFormat(languages, { style: "currency", currency, maximumFractionDigits: 0 }),
);
const shortMoneyFormat = cached(
  (currency) => new Intl.NumberFormat(languages, { style: "currency", currency, notation: "compact" }),
);
const numberFormat = new Intl.NumberFormat(languages);
const shortFormat = new Intl.NumberFormat(languages, { notation: "compact" });
const percentFormat = new Intl.NumberFormat(languages, {
  style: "percent", maximumFractionDigits: 0, signDisplay: "exceptZero",
});
const signedFormat = new Intl.NumberFormat(languages, { signDisplay: "exceptZero" });
const dateTimeFormat = new Intl.DateTimeFormat(languages, { dateStyle: "medium", timeStyle: "short" });
const preciseFormat = new Intl.DateTimeFormat(languages, { dateStyle: "full", timeStyle: "long" });
const dateFormat = new Intl.DateTimeFormat(languages, { dateStyle: "medium" });
const regionNames = new Intl.DisplayNames(languages, { type: "region", fallback: "code" });
// Days of reports are days of the shop, which have no time zone here.
const dayFormat = new Intl.DateTimeFormat(languages, { day: "numeric", month: "short", timeZone: "UTC" });
const longDayFormat = new Intl.DateTimeFormat(languages, {
  weekday: "short", day: "numeric", month: "short", timeZone: "UTC",
});
const relativeFormat = new Intl.RelativeTimeFormat(languages, { numeric: "auto", style: "narrow" });
const listFormat = new Intl.ListFormat(languages, { type: "conjunction" });

// `Intl` formats the digits of a text exactly; a number could change some of them.
export const money = (amount, currency) => (amount == null ? "–" : moneyFormat(currency).format(amount));
export const roundMoney = (amount, currency) => (amount == null ? "–" : roundMoneyFormat(currency).format(amount));
export const shortMoney = (amount, currency) => shortMoneyFormat(currency).format(amount);
export const number = (n) => (n == null ? "–" : numberFormat.format(n));
export const short = (n) => shortFormat.format(n);
export const signed = (n) => signedFormat.format(n);
export const percent = (share) => percentFormat.format(share);
export const dateTime = (text) => dateTimeFormat.format(new Date(text));
export const precise = (text) => preciseFormat.format(new Date(text));
export const date = (text) => dateFormat.format(new Date(text));
export const day = (text) => dayFormat.format(new Date(`${text}T00:00:00Z`));
export const longDay = (text) => longDayFormat.format(new Date(`${text}T00:00:00Z`));
export const list = (texts) => listFormat.format(texts);

/** Returns the number of decimal places of a currency. */
export const minorDigits = (currency) => moneyFormat(currency).resolvedOptions().maximumFractionDigits;

/** Returns the symbol of a currency. */
export const symbol = (currency) =>
  moneyFormat(currency).formatToParts(0).find((part) => part.type === "currency")?.value ?? currency;

/** Returns a time as people speak of it: "5 min ago". A time that is more than a month away is a date. */
export function relative(text) {
  const seconds = (new Date(text) - Date.now()) / 1000;
  if (Math.abs(seconds) >= 30 * 86_400) return date(text);
  for (const [unit, size] of [["day", 86_400], ["hour", 3_600], ["minute", 60]]) {
    if (Math.abs(seconds) >= size) return relativeFormat.format(Math.round(seconds / size), unit);
  }
  return relativeFormat.format(Math.round(seconds), "second");
}

/** Returns words for a word of the API, such as `out_of_stock`. */
export const words = (text) => {
  const spaced = String(text ?? "").replace(/[_-]+/g, " ");
  return spaced.charAt(0).toUpperCase() + spaced.slice(1);
};

/** Returns a number with its noun. */
export const count = (n, one, many = `${one}s`) => `${numberFormat.format(n)} ${n === 1 ? one : many}`;

/** Returns the name of a country for its code, such as `GB`. */
export function country(code) {
  try {
    return regionNames.of(code.toUpperCase());
  } catch {
    return code;
  }
}

/** Returns the name of the buyer of an order. */
export const buyer = (order) =>
  [order.customer.first_name, order.customer.last_name].filter(Boolean).join(" ") || order.customer.email || "erased";

/** Returns a number as the API reads it. Many people type a decimal comma; it has at most two digits behind it, because a
 * comma with three can separate thousands. */
export const decimal = (text) => (/^\s*\d+,\d{1,2}\s*$/.test(text) ? text.trim().replace(",", ".") : text);

/** Reads a whole number. Another text is returned as it is, so that the API refuses it and says why. */
export const whole = (text) => (/^\s*-?\d+\s*$/.test(text) ? Number(text) : text);

/** Returns who an actor is, such as `user:…` or `system`. */
export function actor(text) {
  const names = { user: "a user", api_key: "an API key", system: "the system", anonymous: "somebody", guest: "a guest" };
  return names[text.split(":")[0]] ?? text;
}

/** Returns bytes as people read them. */
export function bytes(n) {
  const units = ["byte", "kilobyte", "megabyte", "gigabyte"];
  const at = n < 1 ? 0 : Math.min(Math.floor(Math.log10(n) / 3), 3);
  const format = new Intl.NumberFormat(languages, { style: "unit", unit: units[at], maximumFractionDigits: 1 });
  return format.format(n / 1000 ** at);
}

/** Returns milliseconds as people read them. */
export const duration = (ms) =>
  ms < 1000 ? `${numberFormat.format(ms < 10 ? Math.round(ms * 100) / 100 : Math.round(ms))} ms`
    : `${numberFormat.format(Math.round(ms / 100) / 10)} s`;
