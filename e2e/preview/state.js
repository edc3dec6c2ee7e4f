// Where the page is: time, refresh and variables, as Grafana keeps them in the address. And texts with variables in them.
const ALL = '$__all';
const UNITS = { m: 60, h: 3600, d: 86_400, w: 604_800, M: 2_592_000, y: 31_536_000 };

// Reads `now`, `now-30d` and milliseconds since 1970.
export function instant(text, now) {
  const [, number, unit] = /^now-(\d+)([mhdwMy])$/.exec(text) ?? [];
  if (number) return now - Number(number) * UNITS[unit] * 1000;
  return /^\d+$/.test(text) ? Number(text) : now;
}

export function state(model) {
  const given = new URLSearchParams(location.search);
  const variables = {};
  for (const { name } of model.templating.list) {
    variables[name] = given.getAll(`var-${name}`).filter((value) => value !== ALL);
  }
  return {
    from: given.get('from') ?? model.time.from, to: given.get('to') ?? model.time.to,
    refresh: Number(given.get('refresh') ?? 30), variables,
  };
}

const pairs = (name, chosen) => (chosen.length ? chosen : [ALL]).map((value) => [`var-${name}`, value]);
const written = (list) => list.map((pair) => pair.map(encodeURIComponent).join('=')).join('&');
const timeRange = ({ from, to }) => [['from', from], ['to', to]];
const everyVariable = (chosen) => Object.entries(chosen).flatMap(([name, values]) => pairs(name, values));

// What a link to another dashboard carries along.
export function along(link, place, chosen) {
  const more = [...(link.keepTime ? timeRange(place) : []), ...(link.includeVars ? everyVariable(chosen) : []), ...ours(place)];
  return `${link.url}?${written(more)}`;
}

const ours = ({ refresh }) => {
  const theme = new URLSearchParams(location.search).get('theme');
  return [...(theme ? [['theme', theme]] : []), ['refresh', String(refresh)]];
};

export function remember(place, chosen) {
  history.replaceState(null, '', `?${written([...timeRange(place), ...everyVariable(chosen), ...ours(place)])}`);
}

// Replaces `${name}`, `${name:format}` and `$name`, as far as links of dashboards need it; what is not known stays.
export function interpolate(text, { place, chosen, scope, format }) {
  const context = scope?.__dataContext?.value;
  const value = (name, how) => {
    if (name === '__url_time_range') return written([...timeRange(place), ...ours(place)]);
    if (name === '__all_variables') return written(everyVariable(chosen));
    const cell = /^__data\.fields\.(.+)$/.exec(name)?.[1] ?? /^__data\.fields\["(.+)"\]$/.exec(name)?.[1];
    if (cell && context) return encodeURIComponent(context.frame.fields.find((each) => each.name === cell)?.values[context.rowIndex] ?? '');
    if (!(name in chosen)) return undefined;
    return how === 'queryparam' ? written(pairs(name, chosen[name])) : chosen[name].join(',');
  };
  return String(text ?? '').replace(/\$\{([^}:]+)(?::([^}]+))?\}|\$(\w+)/g, (whole, name, how, short) => value(name ?? short, how ?? format) ?? whole);
}
