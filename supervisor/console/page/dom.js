// Elements without markup: whatever comes from outside becomes text, never HTML.

export const byId = (id) => document.getElementById(id);

/** An element with attributes and children; a string child is text. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null && value !== false) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** The same in SVG's name space. */
export function draw(tag, attributes = {}) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** Set an element's text, if it is another than before: an unchanged page is not laid out anew. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Set or take away an attribute, if that changes anything. */
export function mark(element, name, value) {
  if (value === null || value === false) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
  } else if (element.getAttribute(name) !== String(value)) {
    element.setAttribute(name, value);
  }
}

/** Let a container have exactly these children, in this order, moving as few as possible. */
export function arrange(container, children) {
  let at = container.firstChild;
  for (const child of children) {
    if (child === at) at = at.nextSibling;
    else container.insertBefore(child, at);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}
