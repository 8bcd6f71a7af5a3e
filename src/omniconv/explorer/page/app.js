import { readData } from "./data.js";

const data = readData();
const kind = data.kinds.find((each) => each.name === data.start.kind);

function write(tag, text) {
  const element = document.createElement(tag);
  element.textContent = text;
  document.getElementById("app").append(element);
}

write("h1", kind ? kind.title : "Convolution");
write("p", kind ? kind.summary : "");
write("code", data.start.text);
