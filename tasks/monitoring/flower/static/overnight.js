/*jslint browser: true */

// Replaces the changing part of a page every two seconds, while the page is visible.
(function () {
    "use strict";

    var part = document.getElementById("overnight-part");
    var dot = document.getElementById("overnight-live");
    var words = document.getElementById("overnight-as-of");

    function showLive(live) {
        dot.classList.toggle("status-dot-live", live);
        dot.classList.toggle("status-dot-error", !live);
        if (!live) {
            words.textContent = "No answer";
        }
    }

    function refresh() {
        if (document.hidden) {
            return;
        }
        // With its origin: fetch refuses a relative address on a page opened as user:password@host.
        fetch(window.location.origin + window.location.pathname + part.dataset.part).then(function (answer) {
            if (!answer.ok || answer.redirected) {
                throw new Error("no part");
            }
            return answer.text();
        }).then(function (html) {
            var selection = window.getSelection();
            if (selection && !selection.isCollapsed && part.contains(selection.anchorNode)) {
                return;  // keep a selection that is being copied
            }
            part.innerHTML = html;
            var asOf = part.querySelector("[data-as-of]");
            showLive(Boolean(asOf));
            if (asOf) {
                words.textContent = asOf.dataset.asOf;
            }
        }).catch(function () {
            showLive(false);
        });
    }

    window.setInterval(refresh, 2000);
}());
