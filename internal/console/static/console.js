// Live parts of pages: an element with data-live is replaced by what the server sends.
for (const part of document.querySelectorAll("[data-live]")) {
  const source = new EventSource(part.dataset.live);
  source.addEventListener("message", (event) => {
    // A reader who is in the middle of something is not disturbed.
    const focused = part.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    const page = new DOMParser().parseFromString(event.data, "text/html");
    part.replaceChildren(...page.body.childNodes);
    if (focused) part.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus();
  });
  source.addEventListener("done", () => source.close());
  source.addEventListener("end", () => { source.close(); location.reload(); });
  addEventListener("pagehide", () => source.close());
}

// Documents that are no JSON are told so before they are sent.
for (const field of document.querySelectorAll("textarea[data-json]")) {
  const check = () => {
    try {
      JSON.parse(field.value);
      field.setCustomValidity("");
    } catch (problem) {
      field.setCustomValidity(`This is not JSON: ${problem.message}`);
    }
  };
  field.addEventListener("input", check);
}

// Uploads show how far they are.
for (const form of document.querySelectorAll("form[data-upload]")) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const [file, bar, problem, button] = ["input[type=file]", "progress", "[role=alert]", "button"].map((s) => form.querySelector(s));
    const chosen = file.files[0];
    const upload = new XMLHttpRequest();
    upload.open("PUT", form.dataset.upload + encodeURIComponent(chosen.name));
    upload.setRequestHeader("Content-Type", chosen.type || "application/octet-stream");
    upload.upload.addEventListener("progress", (e) => { bar.value = e.loaded / e.total; });
    upload.addEventListener("loadend", () => {
      if (upload.status === 204) {
        location.reload();
        return;
      }
      bar.hidden = true;
      button.disabled = false;
      problem.hidden = false;
      problem.textContent = upload.responseText || "The upload broke off.";
    });
    bar.hidden = false;
    problem.hidden = true;
    button.disabled = true;
    upload.send(chosen);
  });
}
