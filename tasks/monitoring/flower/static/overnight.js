/*jslint browser: true */

// Swaps in the changing part of a page every two seconds, while somebody looks at it.
(function () {
    "use strict";

    var part = document.getElementById("overnight-part");
    var dot = document.getElementById("overnight-live");
    var words = document.getElementById("overnight-as-of");

    function told(live) {
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
        // With its origin: a page that was opened as user:password@host could fetch no relative address.
        fetch(window.location.origin + window.location.pathname + part.dataset.part).then(function (answer) {
            if (!answer.ok || answer.redirected) {
                throw new Error("no part");
            }
            return answer.text();
        }).then(function (html) {
            var selection = window.getSelection();
            if (selection && !selection.isCollapsed && part.contains(selection.anchorNode)) {
                return;  // somebody is copying out of it
            }
            part.innerHTML = html;
            var asOf = part.querySelector("[data-as-of]");
            told(Boolean(asOf));
            if (asOf) {
                words.textContent = asOf.dataset.asOf;
            }
        }).catch(function () {
            told(false);
        });
    }

    window.setInterval(refresh, 2000);
}());
