"""What a person looks at: heatmap pictures, tables, figures, the answers to the study's claims, and the page of all.

Everything here reads the files of earlier stages and writes files; nothing trains, explains or scores.
"""
