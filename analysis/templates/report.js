(function () {
  "use strict";
  var tip = document.createElement("div");
  tip.id = "tip";
  tip.hidden = true;
  document.body.appendChild(tip);

  // The text is moved out of the browser's own tip, so that there are not two.
  function textOf(node) {
    if (node.dataset.tip === undefined) {
      var title = node.querySelector ? node.querySelector(":scope > title") : null;
      node.dataset.tip = title ? title.textContent : node.getAttribute("title") || "";
      if (node.hasAttribute("title")) {
        node.setAttribute("aria-label", node.textContent + ", " + node.getAttribute("title"));
        node.removeAttribute("title");
      }
      if (title) {
        node.setAttribute("aria-label", title.textContent);
        title.remove();
      }
    }
    return node.dataset.tip;
  }
  // In a chart the nearest mark counts: a finger is wider than a marker.
  function nearest(event) {
    var chart = event.target.closest(".chart > svg");
    if (!chart) {
      return event.target.closest("td[title], td[data-tip]");
    }
    var best = null, least = 26;
    chart.querySelectorAll(".mark, .interval, .broken").forEach(function (mark) {
      var box = mark.getBoundingClientRect();
      var x = Math.max(box.left - event.clientX, event.clientX - box.right, 0);
      var y = Math.max(box.top - event.clientY, event.clientY - box.bottom, 0);
      var centre = Math.hypot(box.left + box.width / 2 - event.clientX, box.top + box.height / 2 - event.clientY);
      var away = Math.hypot(x, y) + centre / 1000;
      if (away < least) { least = away; best = mark; }
    });
    return best || event.target.closest(".span");
  }
  var last = null;
  function show(event) {
    var node = event.target.closest ? nearest(event) : null;
    if (last && last !== node) { last.classList.remove("near"); }
    last = node;
    var text = node ? textOf(node) : "";
    tip.hidden = !text;
    if (!text) { return; }
    if (node.classList.contains("mark")) { node.classList.add("near"); }
    tip.textContent = text;
    var width = tip.offsetWidth, height = tip.offsetHeight;
    var left = Math.min(Math.max(event.clientX - width / 2, 6), window.innerWidth - width - 6);
    var top = event.clientY - height - 14;
    tip.style.left = left + "px";
    tip.style.top = (top < 6 ? event.clientY + 18 : top) + "px";
  }
  document.addEventListener("pointermove", show);
  document.addEventListener("pointerdown", show);
  document.addEventListener("scroll", function () { tip.hidden = true; }, true);

  function unfold() {
    var target = location.hash ? document.getElementById(location.hash.slice(1)) : null;
    for (var node = target; node; node = node.parentElement) {
      if (node.tagName === "DETAILS") { node.open = true; }
    }
  }
  window.addEventListener("hashchange", unfold);
  unfold();
  var shut = [];
  window.addEventListener("beforeprint", function () {
    shut = Array.prototype.slice.call(document.querySelectorAll("details:not([open])"));
    shut.forEach(function (fold) { fold.open = true; });
  });
  window.addEventListener("afterprint", function () { shut.forEach(function (fold) { fold.open = false; }); });
})();
