// Draws a classic dashboard with Grafana's own components over live rows. Not Grafana: the page around the panels,
// the variables' bar and the bar chart are ours. Panels, their frames, themes, units and colours are Grafana's.
import React, { useCallback, useEffect, useMemo, useState } from 'react';
import { createRoot } from 'react-dom/client';
import {
  FieldColorModeId, FieldType, LoadingState, ThresholdsMode, VizOrientation, createTheme, dateTime,
  getDisplayProcessor, getDisplayValueAlignmentFactors, toDataFrame, ThemeContext,
} from '@grafana/data';
import { BarGauge, BigValue, GlobalStyles, PanelChrome, Table, TimeSeries, VizRepeater } from '@grafana/ui';

const parameters = new URLSearchParams(location.search);
const CELL = 30;
const GAP = 8;
const RANGES = [['now-6h', '6 hours'], ['now-24h', '24 hours'], ['now-7d', '7 days'], ['now-30d', '30 days'], ['now-90d', '90 days'], ['now-1y', '1 year']];
const REFRESHES = [[0, 'off'], [10, '10s'], [30, '30s'], [60, '1m']];

const faults = [];
const note = (text) => {
  faults.push(text);
  document.body.dataset.faults = JSON.stringify(faults);
};
window.addEventListener('error', (event) => note(`page: ${event.message}`));
window.addEventListener('unhandledrejection', (event) => note(`page: ${event.reason}`));

const get = async (path) => {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
};
const ask = async (body) => {
  const answer = await fetch('/api/query', { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) });
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
};

function span(from) {
  const [, number, unit] = /^now-(\d+)([hdwMy])$/.exec(from) ?? [null, '30', 'd'];
  const hours = { h: 1, d: 24, w: 168, M: 720, y: 8760 }[unit];
  return Number(number) * hours * 3600 * 1000;
}

// A column of ClickHouse as a field of Grafana.
function field({ name, type }, values) {
  const bare = type.replace(/^Nullable\((.*)\)$/, '$1').replace(/^LowCardinality\((.*)\)$/, '$1');
  const instant = (value) => (value === null ? null : Date.parse(`${String(value).replace(' ', 'T')}${String(value).includes('T') ? '' : String(value).length > 10 ? 'Z' : 'T00:00:00Z'}`));
  if (/^Date(Time)?/.test(bare)) return { name, type: FieldType.time, values: values.map(instant), config: {} };
  if (/^(U?Int|Float|Decimal)/.test(bare)) return { name, type: FieldType.number, values: values.map((value) => (value === null ? null : Number(value))), config: {} };
  return { name, type: FieldType.string, values, config: {} };
}

function frame({ meta, data }) {
  return { fields: meta.map((column, index) => field(column, data.map((row) => row[index]))), length: data.length };
}

function merge(into, from) {
  if (from === null || typeof from !== 'object' || Array.isArray(from)) return from;
  const merged = { ...(into ?? {}) };
  for (const [key, value] of Object.entries(from)) merged[key] = merge(merged[key], value);
  return merged;
}

// What Grafana does with fieldConfig: the defaults, then the overrides by name.
function configure(data, panel, theme) {
  const numbers = data.fields.filter((each) => each.type === FieldType.number);
  for (const each of data.fields) {
    let config = merge({}, panel.fieldConfig?.defaults ?? {});
    if (each.type !== FieldType.number && !panel.overridden?.(each.name)) delete config.unit;
    for (const override of panel.fieldConfig?.overrides ?? []) {
      if (override.matcher.options !== each.name) continue;
      for (const { id, value } of override.properties) {
        const path = id.split('.');
        config = merge(config, path.reduceRight((inner, key) => ({ [key]: inner }), value));
        if (id === 'thresholds' || id === 'mappings') config[id] = value;
        if (id === 'custom.lineStyle') config.custom.lineStyle = value;
      }
    }
    config.thresholds = { mode: ThresholdsMode.Absolute, ...config.thresholds };
    config.thresholds.steps = (config.thresholds.steps ?? [{ color: 'text', value: null }]).map((step) => ({ ...step, value: step.value ?? -Infinity }));
    config.color = config.color ?? { mode: FieldColorModeId.Thresholds };
    if (each.type === FieldType.number && (config.min === undefined || config.max === undefined)) {
      const known = each.values.filter((value) => value !== null);
      each.state = { range: { min: config.min ?? Math.min(0, ...known), max: config.max ?? Math.max(...known, 0), delta: 0 } };
      each.state.range.delta = each.state.range.max - each.state.range.min;
      if (config.custom?.cellOptions?.type === 'gauge' || panel.type === 'bargauge') config.max = config.max ?? each.state.range.max;
    }
    each.config = config;
    each.state = { ...each.state, seriesIndex: numbers.indexOf(each), displayName: config.displayName ?? each.name };
    each.display = getDisplayProcessor({ field: each, theme, timeZone: 'utc' });
    each.getLinks = () => [];
  }
  return data;
}

// A series a value of the one text column, as Grafana makes of a long frame.
function wide(data) {
  const time = data.fields.find((each) => each.type === FieldType.time);
  const label = data.fields.find((each) => each.type === FieldType.string);
  if (!time || !label) return data;
  const value = data.fields.find((each) => each.type === FieldType.number);
  const times = [...new Set(time.values)].sort((a, b) => a - b);
  const at = new Map(times.map((each, index) => [each, index]));
  const series = new Map();
  label.values.forEach((name, row) => {
    if (!series.has(name)) series.set(name, new Array(times.length).fill(null));
    series.get(name)[at.get(time.values[row])] = value.values[row];
  });
  return {
    fields: [{ ...time, values: times }, ...[...series].map(([name, values]) => ({ name, type: FieldType.number, values, config: {} }))],
    length: times.length,
  };
}

function Series({ data, panel, range, width, height }) {
  const frames = useMemo(() => [toDataFrame({ fields: data.fields })], [data]);
  frames[0].fields.forEach((each, index) => Object.assign(each, { config: data.fields[index].config, state: { ...data.fields[index].state, origin: undefined }, display: data.fields[index].display }));
  const legend = panel.options.legend ?? {};
  return (
    <TimeSeries frames={frames} width={width} height={height} timeZone="utc" structureRev={1}
      timeRange={{ from: dateTime(range.from), to: dateTime(range.to), raw: { from: dateTime(range.from), to: dateTime(range.to) } }}
      legend={{ displayMode: 'list', placement: 'bottom', calcs: [], showLegend: legend.showLegend !== false && data.fields.length > 1 }} options={{}} />
  );
}

function Stat({ data, panel, theme, width, height }) {
  const values = data.fields.filter((each) => each.values.length > 0).map((each) => {
    const shown = each.display(each.values[each.values.length - 1]);
    return { ...shown, title: panel.options.textMode === 'value' ? undefined : each.name };
  });
  const orientation = panel.options.orientation === 'horizontal' ? VizOrientation.Horizontal : VizOrientation.Vertical;
  return (
    <VizRepeater source={values} getValues={() => values} renderCounter={values.length} width={width} height={height} orientation={orientation}
      renderValue={({ value, width: w, height: h }) => (
        <BigValue value={value} width={w} height={h} theme={theme} colorMode="value" graphMode="none" justifyMode="auto" textMode={value.title ? 'value_and_name' : 'value'} />
      )} />
  );
}

function Bars({ data, theme, width, height }) {
  const label = data.fields.find((each) => each.type === FieldType.string);
  const number = data.fields.find((each) => each.type === FieldType.number);
  const values = number.values.map((value, row) => ({ ...number.display(value), title: label ? String(label.values[row]) : number.name, numeric: value ?? 0 }));
  const most = Math.max(...values.map((value) => value.numeric), 0);
  const factors = getDisplayValueAlignmentFactors(values.map((display) => ({ display })));
  const config = { ...number.config, min: 0, max: number.config.max ?? most };
  return (
    <VizRepeater source={values} getValues={() => values} renderCounter={values.length} width={width} height={height} orientation={VizOrientation.Horizontal} itemSpacing={6}
      renderValue={({ value, width: w, height: h }) => (
        <BarGauge value={value} width={w} height={h} field={config} display={number.display} theme={theme} orientation={VizOrientation.Horizontal} displayMode="basic" showUnfilled
          alignmentFactors={factors} text={{ titleSize: 13, valueSize: 16 }} />
      )} />
  );
}

function Rows({ data, width, height }) {
  const shown = toDataFrame({ fields: data.fields });
  shown.fields.forEach((each, index) => Object.assign(each, { config: data.fields[index].config, state: data.fields[index].state, display: data.fields[index].display, getLinks: () => [] }));
  return <Table data={shown} width={width} height={height} columnMinWidth={60} />;
}

function Body({ panel, result, theme, range, width, height }) {
  const data = useMemo(() => {
    let made = frame(result);
    if (panel.type === 'timeseries') made = wide(made);
    const named = new Set((panel.fieldConfig?.overrides ?? []).filter((each) => each.properties.some((property) => property.id === 'unit')).map((each) => each.matcher.options));
    return configure(made, { ...panel, overridden: (name) => named.has(name) }, theme);
  }, [panel, result, theme]);
  const empty = data.length === 0 || data.fields.every((each) => each.values.every((value) => value === null || value === ''));
  const nothing = panel.fieldConfig?.defaults?.noValue;
  if (empty) return <div className="empty" data-empty={nothing === undefined ? panel.title : undefined}>{nothing ?? 'No data'}</div>;
  const props = { data, panel, theme, range, width, height };
  switch (panel.type) {
    case 'timeseries': return <Series {...props} />;
    case 'stat': return <Stat {...props} />;
    case 'bargauge':
    case 'barchart': return <Bars {...props} />;
    case 'table': return <Rows {...props} />;
    default: return <div className="empty">{panel.type} is not drawn here</div>;
  }
}

class Guard extends React.Component {
  state = { error: null };
  static getDerivedStateFromError(error) { return { error }; }
  componentDidCatch(error) { note(`${this.props.title}: ${error.message}`); }
  render() { return this.state.error ? <div className="empty">{this.state.error.message}</div> : this.props.children; }
}

function Panel({ panel, theme, query, column, onDone }) {
  const [result, setResult] = useState(null);
  const [error, setError] = useState(null);
  useEffect(() => {
    let current = true;
    ask({ ...query, sql: panel.targets[0].rawSql, panel: panel.title })
      .then((answer) => { if (current) { setResult(answer); setError(null); } })
      .catch((problem) => { note(`${panel.title}: ${problem.message}`); if (current) setError(problem.message); })
      .finally(onDone);
    return () => { current = false; };
  }, [panel, query]);
  const place = panel.gridPos;
  const box = { left: place.x * column, top: place.y * (CELL + GAP), width: place.w * column - GAP, height: place.h * (CELL + GAP) - GAP };
  return (
    <div style={{ position: 'absolute', ...box }}>
      <PanelChrome title={panel.title} description={panel.description} width={box.width} height={box.height}
        loadingState={result || error ? LoadingState.Done : LoadingState.Loading} statusMessage={error ?? undefined}>
        {(width, height) => (
          <Guard title={panel.title}>
            {error ? <div className="empty">{error}</div> : result && <Body panel={panel} result={result} theme={theme} range={query} width={width} height={height} />}
          </Guard>
        )}
      </PanelChrome>
    </div>
  );
}

function Board({ model, theme, mode }) {
  const [from, setFrom] = useState(parameters.get('from') ?? model.time.from);
  const [refresh, setRefresh] = useState(Number(parameters.get('refresh') ?? 30));
  const [moment, setMoment] = useState(Date.now());
  const [options, setOptions] = useState(null);
  const [chosen, setChosen] = useState({});
  const [width, setWidth] = useState(window.innerWidth - 32);
  const variables = model.templating.list.filter((variable) => variable.type === 'query');
  const panels = model.panels.filter((panel) => panel.type !== 'row');
  const range = useMemo(() => ({ from: moment - span(from), to: moment, interval: Math.max(1, Math.round(span(from) / 300000)) }), [from, moment]);

  useEffect(() => {
    const resize = () => setWidth(window.innerWidth - 32);
    window.addEventListener('resize', resize);
    return () => window.removeEventListener('resize', resize);
  }, []);
  useEffect(() => {
    if (!refresh) return undefined;
    const timer = setInterval(() => setMoment(Date.now()), refresh * 1000);
    return () => clearInterval(timer);
  }, [refresh]);
  useEffect(() => {
    (async () => {
      const found = {};
      for (const variable of variables) {
        const answer = await ask({ ...range, sql: variable.query, values: {} });
        found[variable.name] = answer.data.map((row) => String(row[0]));
      }
      const start = {};
      for (const variable of variables) {
        const given = parameters.getAll(`var-${variable.name}`);
        start[variable.name] = given.length ? given : variable.multi ? [] : found[variable.name].slice(0, 1);
      }
      setChosen(start);
      setOptions(found);
    })().catch((problem) => note(`variables: ${problem.message}`));
  }, [model]);

  const query = useMemo(() => {
    if (!options) return null;
    const values = {};
    for (const [name, all] of Object.entries(options)) values[name] = chosen[name]?.length ? chosen[name] : all.length ? all : [''];
    return { ...range, values, dashboard: model.title };
  }, [range, options, chosen, model]);

  const done = useMemo(() => ({ count: 0 }), [query]);
  const onDone = useCallback(() => {
    done.count += 1;
    if (done.count >= panels.length) setTimeout(() => { document.body.dataset.ready = 'yes'; }, 500);
  }, [done]);
  const height = Math.max(...panels.map((panel) => (panel.gridPos.y + panel.gridPos.h) * (CELL + GAP)));
  const link = (changes) => {
    const next = new URLSearchParams(location.search);
    for (const [key, value] of Object.entries(changes)) next.set(key, value);
    return `?${next}`;
  };
  return (
    <>
      <header>
        <h1>{model.title}</h1>
        {variables.map((variable) => (
          <label key={variable.name}>
            {variable.label}
            <select value={chosen[variable.name]?.[0] ?? ''} onChange={(event) => setChosen({ ...chosen, [variable.name]: event.target.value ? [event.target.value] : [] })}>
              {variable.multi && <option value="">All</option>}
              {(options?.[variable.name] ?? []).map((value) => <option key={value}>{value}</option>)}
            </select>
          </label>
        ))}
        <span className="space" />
        <label>Time <select value={from} onChange={(event) => setFrom(event.target.value)}>{RANGES.map(([value, name]) => <option key={value} value={value}>{name}</option>)}</select></label>
        <label>Refresh <select value={refresh} onChange={(event) => setRefresh(Number(event.target.value))}>{REFRESHES.map(([value, name]) => <option key={value} value={value}>{name}</option>)}</select></label>
        <a href={link({ theme: mode === 'dark' ? 'light' : 'dark' })}>{mode === 'dark' ? 'Light' : 'Dark'}</a>
      </header>
      <main style={{ height }}>
        {query && panels.map((panel) => <Panel key={panel.id} panel={panel} theme={theme} query={query} column={width / 24} onDone={onDone} />)}
      </main>
    </>
  );
}

function Page() {
  const mode = parameters.get('theme') === 'light' ? 'light' : 'dark';
  const theme = useMemo(() => createTheme({ colors: { mode } }), [mode]);
  const [list, setList] = useState([]);
  const [model, setModel] = useState(null);
  useEffect(() => {
    get('/api/dashboards').then((all) => {
      setList(all);
      const wanted = parameters.get('dashboard') ?? all[0].name;
      return get(`/api/dashboards/${wanted}`).then(setModel);
    }).catch((problem) => note(`dashboards: ${problem.message}`));
  }, []);
  const style = {
    '--canvas': theme.colors.background.canvas, '--text': theme.colors.text.primary, '--soft': theme.colors.text.secondary,
    '--line': theme.colors.border.weak, '--field': theme.colors.background.secondary, '--strong': theme.colors.text.maxContrast,
  };
  const to = (name) => {
    const next = new URLSearchParams({ dashboard: name, theme: mode });
    return `?${next}`;
  };
  return (
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <div className="page" style={style}>
        <nav>
          <b>Tidemark</b>
          {list.map((each) => <a key={each.name} href={to(each.name)} className={each.title === model?.title ? 'here' : ''}>{each.title}</a>)}
          <span className="space" />
          <small>preview with Grafana&rsquo;s components, not Grafana</small>
        </nav>
        {model && <Board model={model} theme={theme} mode={mode} />}
      </div>
    </ThemeContext.Provider>
  );
}

createRoot(document.getElementById('root')).render(<Page />);
