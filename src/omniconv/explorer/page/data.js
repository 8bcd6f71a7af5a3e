/** What Python put into the page: see omniconv/explorer/data.py. */
export function readData() {
  return JSON.parse(document.getElementById("omniconv-data").textContent);
}
