// Figures as people read them. A figure that is not known is a dash.

const NONE = "–";
const counts = new Intl.NumberFormat("en");

export const LEVELS = ["fine", "watch", "suffers"];

export const count = (value) => (value === null ? NONE : counts.format(value));
export const ms = (value) =>
  value === null ? NONE : value < 10_000 ? `${Math.round(value)} ms` : `${Math.round(value / 1000)} s`;
export const percent = (share, digits = 0) =>
  share === null ? NONE : `${(100 * share).toFixed(digits)} %`;
export const mos = (value) => (value === null ? NONE : value.toFixed(1));
export const mebibytes = (bytes) => `${Math.round(bytes / 1048576)} MB`;

export function seconds(value) {
  if (value === null) return NONE;
  return value < 10 ? `${value.toFixed(1)} s` : duration(Math.round(value));
}

/** 1:05, 1:02:05, 3 d 4 h. */
export function duration(whole) {
  const two = (value) => String(value).padStart(2, "0");
  const [days, hours] = [Math.floor(whole / 86400), Math.floor(whole / 3600) % 24];
  const minutes = Math.floor(whole / 60) % 60;
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours}:${two(minutes)}:${two(whole % 60)}`;
  return `${minutes}:${two(whole % 60)}`;
}

export const some = (number, one, many) => `${counts.format(number)} ${number === 1 ? one : many}`;
