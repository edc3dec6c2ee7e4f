// The bar above a dashboard: other dashboards, variables, time. Not Grafana's.
import React, { useEffect, useRef, useState } from 'react';
import { along } from './state.js';

const RANGES = [['now-6h', '6 hours'], ['now-24h', '24 hours'], ['now-7d', '7 days'], ['now-30d', '30 days'], ['now-90d', '90 days'], ['now-1y', '1 year']];
const REFRESHES = [[0, 'off'], [10, '10s'], [30, '30s'], [60, '1m']];

// One value of several, or some of them: none chosen is all.
function Pick({ variable, all, chosen, onChange }) {
  const [open, setOpen] = useState(false);
  const box = useRef(null);
  useEffect(() => {
    const outside = (event) => { if (!box.current?.contains(event.target)) setOpen(false); };
    document.addEventListener('mousedown', outside);
    return () => document.removeEventListener('mousedown', outside);
  }, []);
  if (!variable.multi) {
    const text = (value) => (variable.type === 'datasource' ? variable.current.text : value);
    return (
      <select name={variable.name} value={chosen[0] ?? ''} onChange={(event) => onChange([event.target.value])}>
        {all.map((value) => <option key={value} value={value}>{text(value)}</option>)}
      </select>
    );
  }
  const toggle = (value) => onChange(chosen.includes(value) ? chosen.filter((each) => each !== value) : [...chosen, value]);
  return (
    <span className="pick" ref={box}>
      <button type="button" name={variable.name} onClick={() => setOpen(!open)}>{chosen.length ? chosen.join(' + ') : 'All'}</button>
      {open && (
        <span className="list">
          <label><input type="checkbox" checked={chosen.length === 0} onChange={() => onChange([])} />All</label>
          {all.map((value) => <label key={value}><input type="checkbox" checked={chosen.includes(value)} onChange={() => toggle(value)} />{value}</label>)}
        </span>
      )}
    </span>
  );
}

function Choice({ name, value, all, onChange }) {
  const known = all.some(([each]) => String(each) === String(value));
  return (
    <label>
      {name}
      <select value={value} onChange={(event) => onChange(event.target.value)}>
        {[...(known ? [] : [[value, 'as in the address']]), ...all].map(([each, text]) => <option key={each} value={each}>{text}</option>)}
      </select>
    </label>
  );
}

export function Bar({ model, place, options, chosen, onPlace, onNow, dark }) {
  const change = (changes) => onPlace({ ...place, ...changes });
  const other = new URLSearchParams(location.search);
  other.set('theme', dark ? 'light' : 'dark');
  return (
    <>
      <nav>
        <b>Tidemark</b>
        {model.all.map(({ uid, title }) => (
          <a key={uid} href={along({ url: `/d/${uid}` }, place, {})} className={uid === model.uid ? 'here' : ''}>{title}</a>
        ))}
        <span className="space" />
        <small>preview with Grafana&rsquo;s components, not Grafana</small>
      </nav>
      <header>
        <h1>{model.title}</h1>
        {model.templating.list.map((variable) => (
          <label key={variable.name} title={variable.label}>
            {variable.label}
            <Pick variable={variable} all={options[variable.name]} chosen={chosen[variable.name]}
              onChange={(values) => change({ variables: { ...place.variables, ...chosen, [variable.name]: values } })} />
          </label>
        ))}
        <span className="space" />
        {model.links.map((each) => <a key={each.url} className="link" href={along(each, place, chosen)}>{each.title}</a>)}
        <Choice name="Time" value={place.from} all={RANGES} onChange={(from) => change({ from, to: 'now' })} />
        <Choice name="Refresh" value={place.refresh} all={REFRESHES} onChange={(refresh) => change({ refresh: Number(refresh) })} />
        <button type="button" onClick={onNow} title="Refresh now">&#x21bb;</button>
        <a href={`?${other}`}>{dark ? 'Light' : 'Dark'}</a>
      </header>
    </>
  );
}
