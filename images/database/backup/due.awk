# The newest minute at or before `now` that a schedule names, as seconds since 1970 (UTC); 0 if there is none within a year.
# Variables: now, and the schedule's fields as lists of numbers (components/backups/schedule.ts makes them): minutes, hours,
# days, months, weekdays; `either` is 1 where a day fits by its date or by its weekday (both were given), as in cron.
function has(list, n) { return index("," list ",", "," n ",") > 0 }
# Year, month and day from the days since 1970 (Howard Hinnant, "chrono-compatible low-level date algorithms").
function civil(z,    era, doe, yoe, doy, mp) {
  z += 719468; era = int(z / 146097); doe = z - era * 146097
  yoe = int((doe - int(doe / 1460) + int(doe / 36524) - int(doe / 146096)) / 365)
  doy = doe - (365 * yoe + int(yoe / 4) - int(yoe / 100))
  mp = int((5 * doy + 2) / 153)
  day = doy - int((153 * mp + 2) / 5) + 1
  month = mp < 10 ? mp + 3 : mp - 9
}
BEGIN {
  today = int(now / 86400)
  limit = int((now - today * 86400) / 60)
  for (date = today; date > today - 366 * 4; date--) {
    civil(date)
    byDate = has(days, day); byWeekday = has(weekdays, (date + 4) % 7)
    fits = either == 1 ? byDate || byWeekday : byDate && byWeekday
    if (fits && has(months, month)) {
      for (minute = (date == today ? limit : 1439); minute >= 0; minute--) {
        if (has(hours, int(minute / 60)) && has(minutes, minute % 60)) {
          printf "%.0f\n", date * 86400 + minute * 60
          exit
        }
      }
    }
  }
  print 0
}
