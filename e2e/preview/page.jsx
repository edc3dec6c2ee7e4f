// Draws a classic dashboard with Grafana's own components over live rows. Not Grafana: the page around the panels,
// the variables' bar and the bar chart are ours. Panels, their frames, what field options and overrides make of a
// value, links, themes, units and colours are Grafana's.
import React, { useCallback, useEffect, useMemo, useRef, useState } from 'react';
import { createRoot } from 'react-dom/client';
import '@fontsource/inter/latin-400.css';
import '@fontsource/inter/latin-500.css';
import {
  FieldType, LoadingState, ThemeContext, applyFieldOverrides, createTheme, dateTime, getDisplayValueAlignmentFactors,
  getFieldDisplayValues, toDataFrame,
} from '@grafana/data';
import { BarGauge, BigValue, GlobalStyles, PanelChrome, Table, TimeSeries, VizRepeater } from '@grafana/ui';
import { Bar } from './bar.jsx';
import { instant, interpolate, remember, state } from './state.js';

const CELL = 30;
const GAP = 8;
const POINTS = 300;

const faults = [];
const note = (text) => {
  faults.push(text);
  document.body.dataset.faults = JSON.stringify(faults);
};
window.addEventListener('error', (event) => note(`page: ${event.message}`));
window.addEventListener('unhandledrejection', (event) => note(`page: ${event.reason}`));

const answered = async (response) => {
  if (!response.ok) throw new Error(await response.text());
  return response.json();
};
const get = async (path) => answered(await fetch(path));
const ask = async (body) =>
  answered(await fetch('/api/query', { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }));

// A column of ClickHouse as a field of Grafana.
function field({ name, type }, values) {
  const bare = type.replace(/^Nullable\((.*)\)$/, '$1').replace(/^LowCardinality\((.*)\)$/, '$1');
  const time = (value) => {
    if (value === null) return null;
    const text = String(value).replace(' ', 'T');
    return Date.parse(text.length > 10 ? `${text}Z` : text);
  };
  if (/^Date(Time)?/.test(bare)) return { name, type: FieldType.time, values: values.map(time), config: {} };
  if (/^(U?Int|Float|Decimal)/.test(bare)) return { name, type: FieldType.number, values: values.map((value) => (value === null ? null : Number(value))), config: {} };
  return { name, type: FieldType.string, values, config: {} };
}

// A series a value of the one text column, as the plugin makes of a long frame.
function wide(fields) {
  const of = (type) => fields.find((each) => each.type === type);
  const [time, label, value] = [of(FieldType.time), of(FieldType.string), of(FieldType.number)];
  if (!time || !label) return fields;
  const times = [...new Set(time.values)].sort((a, b) => a - b);
  const at = new Map(times.map((each, index) => [each, index]));
  const series = new Map();
  label.values.forEach((name, row) => {
    if (!series.has(name)) series.set(name, new Array(times.length).fill(null));
    series.get(name)[at.get(time.values[row])] = value.values[row];
  });
  return [
    { ...time, values: times },
    ...[...series].sort().map(([name, values]) => ({ ...value, labels: { [label.name]: name }, values })),
  ];
}

// Every option of a field is taken over as it stands: which ones a panel knows is in Grafana's core.
function optionsOf(defaults) {
  const item = (id, isCustom) => ({
    id: isCustom ? `custom.${id}` : id, path: id, isCustom, process: (value) => value, shouldApply: () => true,
  });
  return {
    list: () => [
      ...Object.keys(defaults).filter((id) => id !== 'custom').map((id) => item(id, false)),
      ...Object.keys(defaults.custom ?? {}).map((id) => item(id, true)),
    ],
    getIfExists: (id) => item(id.replace(/^custom\./, ''), id.startsWith('custom.')),
  };
}

function frame(result, panel, context) {
  const columns = result.meta.map((column, index) => field(column, result.data.map((row) => row[index])));
  const raw = toDataFrame({ fields: panel.type === 'timeseries' ? wide(columns) : columns });
  const fieldConfig = structuredClone(panel.fieldConfig);
  return applyFieldOverrides({
    data: [raw], fieldConfig, fieldConfigRegistry: optionsOf(fieldConfig.defaults), theme: context.theme, timeZone: context.zone,
    replaceVariables: context.replace,
  })[0];
}

function Series({ data, panel, context, width, height }) {
  const shape = JSON.stringify(data.fields.map((each) => [each.labels, each.name]));
  const revision = useRef({ shape, number: 1 });
  if (revision.current.shape !== shape) revision.current = { shape, number: revision.current.number + 1 };
  const range = { from: dateTime(context.range.from), to: dateTime(context.range.to) };
  const legend = { calcs: [], ...panel.options.legend };
  return (
    <TimeSeries frames={[data]} width={width} height={height} timeZone={context.zone} structureRev={revision.current.number}
      timeRange={{ ...range, raw: range }} legend={{ ...legend, showLegend: legend.showLegend && data.fields.length > 2 }} options={panel.options} />
  );
}

function values(data, panel, context, more) {
  return getFieldDisplayValues({
    fieldConfig: panel.fieldConfig, reduceOptions: { calcs: [], values: true, limit: 30, ...panel.options.reduceOptions },
    replaceVariables: context.replace, theme: context.theme, data: [data], timeZone: context.zone, ...more,
  });
}

function Stat({ data, panel, context, width, height }) {
  const { options } = panel;
  const sparkline = options.graphMode !== 'none';
  const all = values(data, panel, context, { sparkline, percentChange: options.showPercentChange });
  const factors = getDisplayValueAlignmentFactors(all);
  return (
    <VizRepeater source={data} getValues={() => all} renderCounter={context.range.to} width={width} height={height} orientation={options.orientation}
      renderValue={({ value, width: w, height: h, count }) => (
        <BigValue value={value.display} width={w} height={h} count={count} sparkline={value.sparkline} theme={context.theme} text={options.text}
          colorMode={options.colorMode} graphMode={options.graphMode} justifyMode={options.justifyMode} textMode={options.textMode}
          alignmentFactors={factors} percentChangeColorMode={options.percentChangeColorMode} disableWideLayout={!options.wideLayout} />
      )} />
  );
}

function Bars({ data, panel, context, width, height }) {
  const all = values(data, panel, context);
  const factors = getDisplayValueAlignmentFactors(all);
  return (
    <VizRepeater source={data} getValues={() => all} renderCounter={context.range.to} width={width} height={height} orientation="horizontal" itemSpacing={6}
      renderValue={({ value, width: w, height: h }) => (
        <BarGauge value={value.display} width={w} height={h} field={{ ...value.field, min: 0 }} display={value.view.getFieldDisplayProcessor(value.colIndex)}
          theme={context.theme} orientation="horizontal" displayMode="basic" showUnfilled alignmentFactors={factors} text={{ titleSize: 13, valueSize: 16 }} />
      )} />
  );
}

const KINDS = {
  timeseries: Series,
  stat: Stat,
  bargauge: Bars,
  barchart: Bars,
  table: ({ data, width, height }) => <Table data={data} width={width} height={height} columnMinWidth={60} />,
};

function Body({ panel, result, context, width, height }) {
  const data = useMemo(() => frame(result, panel, context), [panel, result, context]);
  const empty = data.fields.every((each) => each.values.every((value) => value === null || value === ''));
  const nothing = panel.fieldConfig.defaults.noValue;
  if (empty) return <div className="empty" data-empty={nothing === undefined ? panel.title : undefined}>{nothing ?? 'No data'}</div>;
  const Kind = KINDS[panel.type];
  if (!Kind) return <div className="empty" data-empty={panel.title}>{panel.type} is not drawn here</div>;
  return <Kind data={data} panel={panel} context={context} width={width} height={height} />;
}

class Guard extends React.Component {
  state = { error: null };
  static getDerivedStateFromError(error) { return { error }; }
  componentDidCatch(error) { note(`${this.props.title}: ${error.message}`); }
  render() { return this.state.error ? <div className="empty error">{this.state.error.message}</div> : this.props.children; }
}

// What was last answered stays until there is an answer to the new question, with the context that it belongs to.
function Panel({ panel, context, column, onDone }) {
  const [shown, setShown] = useState(null);
  const [asking, setAsking] = useState(true);
  useEffect(() => {
    let current = true;
    setAsking(true);
    ask({ ...context.range, values: context.values, dashboard: context.title, sql: panel.targets[0].rawSql, panel: panel.title })
      .then((result) => ({ result, context }), (problem) => {
        note(`${panel.title}: ${problem.message}`);
        return { error: problem.message };
      })
      .then((next) => {
        if (!current) return;
        setShown(next);
        setAsking(false);
        onDone(context);
      });
    return () => { current = false; };
  }, [panel, context]);
  const place = panel.gridPos;
  const box = { left: place.x * column, top: place.y * (CELL + GAP), width: place.w * column - GAP, height: place.h * (CELL + GAP) - GAP };
  return (
    <div className="panel" style={box}>
      <PanelChrome title={panel.title} description={panel.description} width={box.width} height={box.height}
        loadingState={shown?.error ? LoadingState.Error : asking ? LoadingState.Loading : LoadingState.Done} statusMessage={shown?.error}>
        {(width, height) => (
          <Guard title={panel.title}>
            {shown?.error && <div className="empty error">{shown.error}</div>}
            {shown?.result && <Body panel={panel} result={shown.result} context={shown.context} width={width} height={height} />}
          </Guard>
        )}
      </PanelChrome>
    </div>
  );
}

function Board({ model, theme }) {
  const [place, setPlace] = useState(() => state(model));
  const [moment, setMoment] = useState(Date.now());
  const [options, setOptions] = useState(null);
  const [width, setWidth] = useState(window.innerWidth - 32);
  const rows = model.panels.filter((panel) => panel.type === 'row');
  const panels = model.panels.filter((panel) => panel.type !== 'row');

  useEffect(() => {
    const resize = () => setWidth(window.innerWidth - 32);
    window.addEventListener('resize', resize);
    return () => window.removeEventListener('resize', resize);
  }, []);
  useEffect(() => {
    if (!place.refresh) return undefined;
    const timer = setInterval(() => setMoment(Date.now()), place.refresh * 1000);
    return () => clearInterval(timer);
  }, [place.refresh]);
  const range = useMemo(() => {
    const [from, to] = [instant(place.from, moment), instant(place.to, moment)];
    return { from, to, interval: Math.max(1, Math.round((to - from) / 1000 / POINTS)) };
  }, [place.from, place.to, moment]);
  useEffect(() => {
    (async () => {
      const found = {};
      for (const variable of model.templating.list) {
        found[variable.name] = variable.type === 'datasource' ? [variable.current.value]
          : (await ask({ ...range, sql: variable.query, values: {} })).data.map((row) => String(row[0]));
      }
      setOptions(found);
    })().catch((problem) => note(`variables: ${problem.message}`));
  }, [model]);

  const context = useMemo(() => {
    if (!options) return null;
    // As in Grafana: a value that is not there any more is let go; of one, the first is taken, of several, all.
    const chosen = {};
    const sent = {};
    for (const { name, multi } of model.templating.list) {
      const there = (place.variables[name] ?? []).filter((value) => options[name].includes(value));
      chosen[name] = multi ? there : there.length ? there.slice(0, 1) : options[name].slice(0, 1);
      sent[name] = chosen[name].length ? chosen[name] : options[name].length ? options[name] : [''];
    }
    remember(place, chosen);
    return {
      chosen, range, theme, values: sent, title: model.title, zone: model.timezone,
      replace: (text, scope, format) => interpolate(text, { place, chosen, scope, format }),
    };
  }, [range, options, place, model, theme]);

  const done = useRef({});
  const onDone = useCallback((of) => {
    if (done.current.of !== of) done.current = { of, count: 0 };
    done.current.count += 1;
    // Two frames later it is on the screen.
    if (done.current.count === panels.length) requestAnimationFrame(() => requestAnimationFrame(() => { document.body.dataset.ready = location.href; }));
  }, [panels.length]);
  const top = ({ gridPos: { y } }) => y * (CELL + GAP);
  const height = Math.max(...panels.map((panel) => top(panel) + panel.gridPos.h * (CELL + GAP)));
  if (!context) return null;
  return (
    <>
      <Bar model={model} place={place} options={options} chosen={context.chosen} onPlace={setPlace} onNow={() => setMoment(Date.now())} dark={theme.isDark} />
      <main style={{ height }}>
        {rows.map((row) => <h2 key={row.id} style={{ top: top(row) }}>{row.title}</h2>)}
        {panels.map((panel) => <Panel key={panel.id} panel={panel} context={context} column={width / 24} onDone={onDone} />)}
      </main>
    </>
  );
}

function Page() {
  const theme = useMemo(() => createTheme({ colors: { mode: new URLSearchParams(location.search).get('theme') === 'light' ? 'light' : 'dark' } }), []);
  const [model, setModel] = useState(null);
  useEffect(() => {
    get('/api/dashboards').then((all) => {
      const wanted = all.find(({ uid }) => location.pathname === `/d/${uid}`) ?? all[0];
      return get(`/api/dashboards/${wanted.name}`).then((found) => setModel({ ...found, all }));
    }).catch((problem) => note(`dashboards: ${problem.message}`));
  }, []);
  const { background, text, border } = theme.colors;
  const style = {
    '--canvas': background.canvas, '--text': text.primary, '--soft': text.secondary, '--line': border.weak, '--field': background.secondary,
    '--strong': text.maxContrast, '--error': theme.colors.error.text,
  };
  return (
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <div className="page" style={style}>{model && <Board model={model} theme={theme} />}</div>
    </ThemeContext.Provider>
  );
}

// Texts are measured before they are drawn, so the font has to be there.
Promise.all(['400 14px Inter', '500 14px Inter'].map((font) => document.fonts.load(font)))
  .then(() => createRoot(document.getElementById('root')).render(<Page />));
